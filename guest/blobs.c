/*
 * blobs DIRECTORY LIST: makes git's objects of files in DIRECTORY, as `git hash-object -w` does, but without git, and
 * without reading them twice: what takes time to work out is in LIST, which is in DIRECTORY, too.
 *
 * Each record of LIST is four words that end with a zero byte: the size of a file, the check sum (Adler-32, in hexadecimal)
 * of its object, the file's name, and where its object goes. What is there already is written over.
 *
 * An object is a zlib stream. Nothing is compressed in it: a guest whose processor is emulated would take long for that.
 */

#include "system.h"
#include "files.h"

enum { sys_chdir = 80, sys_mkdir = 83 };
enum { list_bytes = 1 << 20, block_bytes = 65535, block_header = 5, blocks_at_once = 16 };

static char text[list_bytes];
static char output[blocks_at_once * (block_header + block_bytes)];

static void give_up(void) {
  leave(1);
}

static void fail(const char *what, const char *path) {
  say(what);
  say(path);
  say("\n");
  give_up();
}

static void put(int to, const char *path, const void *from, long bytes) {
  if (!write_all(to, from, bytes)) fail("No space left for ", path);
}

/* Before each block that is not compressed: whether it is the last, and its length twice. */
static void begin_block(unsigned char *at, long bytes, int is_last) {
  at[0] = is_last;
  at[1] = bytes & 0xff;
  at[2] = bytes >> 8;
  at[3] = ~at[1];
  at[4] = ~at[2];
}

static void make_parents(char *path) {
  long at;
  for (at = 1; path[at]; at++) {
    if (path[at] != '/') continue;
    path[at] = 0;
    call(sys_mkdir, (long)path, 0755, 0);
    path[at] = '/';
  }
}

static void begin_object(int to, const char *target, const char *size, int is_empty) {
  static unsigned char head[64] = {0x78, 0x01};
  const char *kind = "blob ";
  long at = 2 + block_header;
  while (*kind) head[at++] = *kind++;
  while (*size && at < (long)sizeof head - 1) head[at++] = *size++;
  head[at++] = 0;
  begin_block(head + 2, at - 2 - block_header, is_empty);
  put(to, target, head, at);
}

static void end_object(int to, const char *target, const char *sum) {
  unsigned char bytes[4] = {0, 0, 0, 0};
  int at;
  for (at = 0; at < 8 && sum[at]; at++) {
    int digit = sum[at] <= '9' ? sum[at] - '0' : sum[at] - 'a' + 10;
    bytes[at / 2] = bytes[at / 2] << 4 | digit;
  }
  put(to, target, bytes, sizeof bytes);
}

/* As many bytes as are asked for, or all that there are. */
static long read_full(int from, char *into, long most) {
  long done = 0, bytes;
  while (done < most && (bytes = read_some(from, into + done, most - done)) > 0) done += bytes;
  return done;
}

static void make(const char *size, const char *sum, const char *source, char *target) {
  long left = 0, at;
  int from = call4(sys_openat, at_cwd, (long)source, read_only | no_follow, 0), to;
  if (from < 0) fail("cannot read ", source);
  for (at = 0; size[at]; at++) left = left * 10 + size[at] - '0';
  make_parents(target);
  to = call4(sys_openat, at_cwd, (long)target, write_only | create | truncate | no_follow, 0444);
  if (to < 0) fail("cannot make ", target);
  begin_object(to, target, size, left == 0);
  for (at = 0; left > 0;) {
    long bytes = left < block_bytes ? left : block_bytes;
    left -= bytes;
    begin_block((unsigned char *)output + at, bytes, left == 0);
    if (read_full(from, output + at + block_header, bytes) < bytes) fail("too little is in ", source);
    at += block_header + bytes;
    if (left > 0 && at < (long)sizeof output) continue;
    put(to, target, output, at);
    at = 0;
  }
  end_object(to, target, sum);
  call(sys_close, to, 0, 0);
  call(sys_close, from, 0, 0);
}

void blobs(long *stack) {
  const char **words = (const char **)(stack + 1);
  long filled, at = 0;
  int list;
  if (stack[0] != 3) {
    say("usage: blobs DIRECTORY LIST\n");
    leave(2);
  }
  if (call(sys_chdir, (long)words[1], 0, 0) < 0) fail("cannot go to ", words[1]);
  list = call4(sys_openat, at_cwd, (long)words[2], read_only | no_follow, 0);
  if (list < 0) fail("cannot read ", words[2]);
  filled = read_full(list, text, list_bytes);
  if (filled == list_bytes || (filled > 0 && text[filled - 1])) fail("cannot take all of ", words[2]);
  while (at < filled) {
    char *fields[4];
    int field;
    for (field = 0; field < 4; field++) {
      if (at >= filled) fail("cannot take all of ", words[2]);
      fields[field] = text + at;
      at += length_of(text + at) + 1;
    }
    make(fields[0], fields[1], fields[2], fields[3]);
  }
  leave(0);
}

START(blobs);
