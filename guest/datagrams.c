/*
 * datagrams ADDRESS PORT: carries datagrams between a UDP port of this guest and standard input and output, where each
 * is a frame: two bytes for whose it is, two for its length (little-endian both), and what is in it.
 *
 * Others are known by numbers below `others`. Each is given a socket of its own by its first datagram, so that whoever
 * listens at the port tells them apart, and loses it by a frame of the length `over`, which is sent back when nothing
 * of that socket's will come any more. What cannot be delivered is lost, as datagrams are. It is over when its input
 * is, or when nobody reads its output.
 */

#include "system.h"

enum { internet = 2, datagram = 2, nonblocking = 2048 };
enum { refused = -111 };
enum { others = 256, header = 4, longest = 65507, over = 65535, room = 4 * (header + longest) };

struct address {
  unsigned short family;
  unsigned char port[2];
  unsigned char host[4];
  char zero[8];
};

static struct address target;
/* Of each of the others, then standard input and output. One that is negative is not looked at. */
static struct pollfd watched[others + 2];
static unsigned char input[room], output[room];
static long input_length, output_length;

static void flush(void) {
  if (!write_all(1, output, output_length)) leave(0);
  output_length = 0;
}

/* The frame's header; what is in it is there already. */
static void put(long other, long length) {
  unsigned char *at = output + output_length;
  at[0] = other;
  at[1] = other >> 8;
  at[2] = length;
  at[3] = length >> 8;
  output_length += header + (length == over ? 0 : length);
  if (output_length > room - (header + longest)) flush();
}

static void forget(long other) {
  if (watched[other].descriptor >= 0) call(sys_close, watched[other].descriptor, 0, 0);
  watched[other].descriptor = -1;
}

static void send_for(long other, const unsigned char *from, long length) {
  struct pollfd *one = &watched[other];
  if (one->descriptor < 0) {
    one->descriptor = call(sys_socket, internet, datagram | nonblocking, 0);
    if (one->descriptor < 0) return;
    if (call(sys_connect, one->descriptor, (long)&target, sizeof target) < 0) return forget(other);
  }
  /* That nobody listened to the last one is said in place of sending this one. */
  if (call(sys_write, one->descriptor, (long)from, length) == refused)
    call(sys_write, one->descriptor, (long)from, length);
}

static void take_input(void) {
  long at = 0;
  long bytes = read_some(0, input + input_length, room - input_length);
  if (bytes <= 0) leave(0);
  input_length += bytes;
  while (input_length - at >= header) {
    const unsigned char *frame = input + at;
    long other = frame[0] | frame[1] << 8;
    long length = frame[2] | frame[3] << 8;
    if (other >= others || (length > longest && length != over)) {
      say("that is no frame\n");
      leave(1);
    }
    if (length == over) {
      forget(other);
      put(other, over);
      at += header;
      continue;
    }
    if (input_length - at < header + length) break;
    send_for(other, frame + header, length);
    at += header + length;
  }
  input_length -= at;
  for (bytes = 0; bytes < input_length; bytes++) input[bytes] = input[at + bytes];
}

/* As much as there is, but not for ever: the others wait. */
static void take_answers(long other) {
  int count;
  for (count = 0; count < 32; count++) {
    long length = read_some(watched[other].descriptor, output + output_length + header, longest);
    /* Nobody listens, which the next one that is sent finds out for itself. */
    if (length == refused) continue;
    if (length < 0) return;
    put(other, length);
  }
}

/* A number of up to `most`, and where it ends. */
static long number(const char **text, long most) {
  long found = 0;
  const char *at = *text;
  while (*at >= '0' && *at <= '9' && found <= most) found = found * 10 + (*at++ - '0');
  if (at == *text || found > most) {
    say("usage: datagrams ADDRESS PORT\n");
    leave(2);
  }
  *text = at;
  return found;
}

static void parse_target(const char *address, const char *port) {
  long part;
  target.family = internet;
  for (part = 0; part < 4; part++) {
    target.host[part] = number(&address, 255);
    if (*address == '.') address++;
  }
  part = number(&port, 65535);
  target.port[0] = part >> 8;
  target.port[1] = part;
}

void datagrams(long *stack) {
  long other;
  if (stack[0] != 3) {
    say("usage: datagrams ADDRESS PORT\n");
    leave(2);
  }
  parse_target((const char *)stack[2], (const char *)stack[3]);
  for (other = 0; other < others; other++) {
    watched[other].descriptor = -1;
    watched[other].events = readable;
  }
  watched[others].descriptor = 0;
  watched[others].events = readable;
  watched[others + 1].descriptor = 1;
  for (;;) {
    if (call(sys_poll, (long)watched, others + 2, -1) < 0) continue;
    if (watched[others + 1].found & failed) leave(0);
    for (other = 0; other < others; other++)
      if (watched[other].descriptor >= 0 && watched[other].found) take_answers(other);
    if (watched[others].found) take_input();
    flush();
  }
}

START(datagrams);
