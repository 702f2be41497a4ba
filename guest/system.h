/*
 * What programs of ours in a guest begin with. No C library: a guest's image may have any, or none. x86-64 only, as
 * guests are.
 */

enum { sys_read = 0, sys_write = 1, sys_close = 3, sys_poll = 7, sys_socket = 41, sys_connect = 42, sys_exit = 60 };
enum { readable = 1, failed = 8, hung_up = 16 };
enum { interrupted = -4 };

struct pollfd {
  int descriptor;
  short events;
  short found;
};

static long call(long number, long first, long second, long third) {
  long result;
  __asm__ volatile("syscall"
                   : "=a"(result)
                   : "a"(number), "D"(first), "S"(second), "d"(third)
                   : "rcx", "r11", "memory");
  return result;
}

static void leave(int code) {
  for (;;) call(sys_exit, code, 0, 0);
}

static void say(const char *text) {
  long length = 0;
  while (text[length]) length++;
  call(sys_write, 2, (long)text, length);
}

static long read_some(int from, void *into, long most) {
  long bytes;
  do bytes = call(sys_read, from, (long)into, most);
  while (bytes == interrupted);
  return bytes;
}

/* 0 when nobody takes it any more. */
static int write_all(int to, const void *from, long bytes) {
  long done = 0;
  while (done < bytes) {
    long written = call(sys_write, to, (long)from + done, bytes - done);
    if (written > 0) done += written;
    else if (written != interrupted) return 0;
  }
  return 1;
}

/* Where a program begins: its arguments are on the stack. */
#define START(program) __asm__(".globl _start\n_start:\n  mov %rsp, %rdi\n  and $-16, %rsp\n  call " #program "\n")
