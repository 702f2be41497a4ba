/*
 * relay PATH: connects to the Unix socket PATH and carries bytes between it and standard input and output.
 *
 * Each direction ends by itself, as those of a socket do: input that ends is told to the socket's other side, and
 * what that side ends ends the output, while the other direction goes on. It is over when both have ended, when the
 * other side has closed, or when nobody reads the output any more.
 *
 * Two processes, one a direction: each may wait for its reader without keeping the other one up.
 */

#include "system.h"

enum { sys_shutdown = 48, sys_fork = 57, sys_prctl = 157 };
enum { unix_domain = 1, stream = 1, shut_write = 1, set_parent_death_signal = 1, sigkill = 9 };

struct address {
  unsigned short family;
  char path[108];
};

static char buffer[65536];

static int connect_to(const char *path) {
  struct address address;
  int length = 0;
  address.family = unix_domain;
  for (; path[length]; length++) {
    if (length == sizeof address.path - 1) {
      say("the path is too long for a socket\n");
      leave(1);
    }
    address.path[length] = path[length];
  }
  address.path[length] = 0;
  int peer = call(sys_socket, unix_domain, stream, 0);
  long error = peer < 0 ? peer : call(sys_connect, peer, (long)&address, sizeof address.family + length + 1);
  if (error == 0) return peer;
  say(error == -2     ? "no such file\n"
      : error == -111 ? "nobody listens there\n"
      : error == -13  ? "permission denied\n"
                      : "it cannot be connected to\n");
  leave(1);
  return -1;
}

/* Input to the socket, until one of them ends. */
static void send_input(int peer) {
  long bytes;
  call(sys_prctl, set_parent_death_signal, sigkill, 0);
  call(sys_close, 1, 0, 0);
  call(sys_close, 2, 0, 0);
  while ((bytes = read_some(0, buffer, sizeof buffer)) > 0 && write_all(peer, buffer, bytes)) continue;
  call(sys_shutdown, peer, shut_write, 0);
  leave(0);
}

/* What comes from the socket to the output, then waits until the other direction has ended as well. */
static void receive_output(int peer) {
  struct pollfd both[2] = {{peer, readable, 0}, {1, 0, 0}};
  call(sys_close, 0, 0, 0);
  call(sys_close, 2, 0, 0);
  for (;;) {
    if (call(sys_poll, (long)both, 2, -1) < 0) continue;
    if (both[1].found & failed) leave(0);
    if (!both[0].found) continue;
    long bytes = read_some(peer, buffer, sizeof buffer);
    if (bytes <= 0) break;
    if (!write_all(1, buffer, bytes)) leave(0);
  }
  call(sys_close, 1, 0, 0);
  both[0].events = 0;
  while (call(sys_poll, (long)both, 1, -1) < 0 || !(both[0].found & (failed | hung_up))) continue;
  leave(0);
}

void relay(long *stack) {
  if (stack[0] != 2) {
    say("usage: relay PATH\n");
    leave(2);
  }
  /* Whoever listens may let us wait. */
  call(sys_prctl, set_parent_death_signal, sigkill, 0);
  int peer = connect_to((const char *)stack[2]);
  long child = call(sys_fork, 0, 0, 0);
  if (child == 0) send_input(peer);
  if (child < 0) {
    say("no process could be started\n");
    leave(1);
  }
  receive_output(peer);
}

START(relay);
