/* echo: sends every datagram that comes to UDP port 53 back to whoever sent it. */

#include "../../../guest/system.h"

enum { sys_sendmsg = 46, sys_recvmsg = 47, sys_bind = 49 };
enum { internet = 2, datagram = 2 };

struct address {
  unsigned short family;
  unsigned char port[2];
  char rest[12];
};

struct part {
  void *base;
  unsigned long length;
};

struct message {
  struct address *name;
  long name_length;
  struct part *parts;
  long parts_length;
  void *control;
  long control_length;
  long flags;
};

static unsigned char bytes[65536];
static struct address any = {internet, {0, 53}}, from;
static struct part part = {bytes};
static struct message message = {&from, 0, &part, 1};

void echo(void) {
  long socket = call(sys_socket, internet, datagram, 0);
  if (call(sys_bind, socket, (long)&any, sizeof any) < 0) leave(1);
  for (;;) {
    message.name_length = sizeof from;
    part.length = sizeof bytes;
    part.length = call(sys_recvmsg, socket, (long)&message, 0);
    if ((long)part.length >= 0) call(sys_sendmsg, socket, (long)&message, 0);
  }
}

START(echo);
