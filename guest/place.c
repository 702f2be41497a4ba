/*
 * place PATH LIST NEW OLD [again]: puts files in the place of others in the workspace PATH, none of which was changed
 * since it was looked at. LIST, NEW and OLD are in it: what is to be done, the files that come, and what they replace.
 *
 * Each record of LIST ends with a zero byte: `w` and the path of a file that comes or is replaced, `r` and that of one that
 * goes, `m` and that of one of the repository's own, which nobody else knows of.
 *
 * What is to give way is looked at first: a time of change (ctime) that is not older than the mark, `.git/banger-looked` or
 * `.git/banger-quiet`, says that somebody changed it. Then it changes places with what comes, in one step, and is looked
 * at again, where nobody finds it by its path any more: who wrote it in between, or put another in its place, has
 * changed its inode, size, mode or time. If one was changed, all go back, and it is told in a line. So nothing is replaced that
 * nobody has seen.
 *
 * With `again` it goes on where it was ended, or after directories were made room for. What was changed meanwhile stays
 * as it is then, and what was to come in its place goes with NEW.
 *
 * It ends with 0, with 4 when something is left for which the directories are not right, with 76 when something was
 * changed and all is as it was, and with 3 when it cannot tell and has done nothing.
 */

#include "system.h"
#include "files.h"

enum { sys_mkdirat = 258, sys_unlinkat = 263, sys_linkat = 265, sys_renameat2 = 316, sys_openat2 = 437 };
enum { no_replace = 1, exchange = 2, path_only = 010000000, beneath_without_symlinks = 0x08 | 0x04 };
enum { not_there = -2, exists = -17, not_known = -38 };
enum { most_records = 1 << 18, list_bytes = 32 << 20, left_over = 4, was_changed = 76 };

/* What is known of a file without reading it. */
struct state {
  unsigned long inode;
  long size;
  unsigned mode;
  struct time modified;
};

enum done { nothing, placed, exchanged, removed, skipped };

struct record {
  char *path;
  char kind, done;
  struct state old, now;
};

static struct record records[most_records];
static long count;
static char text[list_bytes];
static struct time since;
static int here, coming, going, is_again, has_left;
static char output[65536];
static long filled;

static void give_up(void) {
  leave(is_again ? 1 : 3);
}

static void tell(const char *path) {
  long length = length_of(path);
  if (filled + length + 1 > (long)sizeof output) return;
  while (*path) output[filled++] = *path++;
  output[filled++] = '\n';
}

static int find(int parent, const char *name, struct status *into) {
  return call4(sys_newfstatat, parent, (long)name, (long)into, symlink_itself);
}

static void keep(struct state *into, const struct status *from) {
  into->inode = from->inode;
  into->size = from->size;
  into->mode = from->mode;
  into->modified.seconds = from->modified.seconds;
  into->modified.nanoseconds = from->modified.nanoseconds;
}

static int is_same(const struct state *one, const struct status *other) {
  return one->inode == other->inode && one->size == other->size && one->mode == other->mode &&
         one->modified.seconds == other->modified.seconds && one->modified.nanoseconds == other->modified.nanoseconds;
}

static int is_new(const struct time *time) {
  if (time->seconds != since.seconds) return time->seconds > since.seconds;
  return time->nanoseconds >= since.nanoseconds;
}

/* The name in OLD of what a record replaces. */
static char *number(long index) {
  static char digits[24];
  char *at = digits + sizeof digits - 1;
  do *--at = '0' + index % 10;
  while ((index /= 10));
  return at;
}

static long call5(long number, long first, long second, long third, long fourth, long fifth) {
  long result;
  __asm__ volatile("mov %%rcx, %%r10\n\tmov %%rbx, %%r8\n\tsyscall"
                   : "=a"(result), "+c"(fourth)
                   : "a"(number), "D"(first), "S"(second), "d"(third), "b"(fifth)
                   : "r8", "r10", "r11", "memory");
  return result;
}

static int rename_to(int from_directory, const char *from, int to_directory, const char *to, int how) {
  return call5(sys_renameat2, from_directory, (long)from, to_directory, (long)to, how);
}

static char parent_path[path_bytes];
static int parent = -1;

/* The directory that a path is in, if no symlink leads there; its last name goes to `name`. */
static int open_parent(char *path, char **name) {
  struct {
    unsigned long flags, mode, resolve;
  } how;
  long end = length_of(path), at;
  while (end > 0 && path[end - 1] != '/') end--;
  *name = path + end;
  if (end == 0) return here;
  if (end >= path_bytes) give_up();
  if (parent >= 0 && same(path, parent_path, end) && parent_path[end] == 0) return parent;
  if (parent >= 0) call(sys_close, parent, 0, 0);
  for (at = 0; at < end; at++) parent_path[at] = path[at];
  parent_path[end] = 0;
  how.flags = path_only | directory;
  how.mode = 0;
  how.resolve = beneath_without_symlinks;
  parent = call4(sys_openat2, here, (long)parent_path, (long)&how, sizeof how);
  if (parent == not_known) give_up();
  return parent;
}

/* What is to give way, as it is before anything is done. Whether it may. */
static int look_first(struct record *each, long index) {
  struct status found, saved;
  char *name;
  int at = open_parent(each->path, &name);
  each->old.inode = 0;
  if (at < 0 || find(at, name, &found) < 0 || (found.mode & type_mask) == type_directory) return 1;
  keep(&each->old, &found);
  if (!is_new(&found.changed)) return 1;
  /* It was given another name, or moved away and back, by a run that was ended. */
  return is_again && find(going, number(index), &saved) == 0 && saved.inode == found.inode && !is_new(&found.modified);
}

static int has_changed_places(struct record *each, long index) {
  struct status saved, came;
  return find(going, number(index), &saved) == 0 && find(coming, each->path, &came) == 0 && saved.inode == came.inode;
}

/* False when what is there is not what was looked at. */
static int put(struct record *each, long index) {
  struct status found;
  char *name;
  int at, result;
  if (find(coming, each->path, &found) < 0) return 1;
  keep(&each->now, &found);
  if (is_again && has_changed_places(each, index)) return 1;
  at = open_parent(each->path, &name);
  if (at < 0) {
    has_left = 1;
    return 1;
  }
  if (each->old.inode == 0) {
    result = rename_to(coming, each->path, at, name, no_replace);
    if (result == 0) each->done = placed;
    else if (result == exists && find(at, name, &found) == 0 && (found.mode & type_mask) == type_directory) has_left = 1;
    else if (result == exists) return 0;
    else has_left = 1;
    return 1;
  }
  /* A second name tells a later run what has changed places. */
  result = call5(sys_linkat, at, (long)name, going, (long)number(index), 0);
  if (result < 0 && result != exists) return result != not_there ? (has_left = 1) : 0;
  result = rename_to(coming, each->path, at, name, exchange);
  if (result == not_there) return 0;
  if (result < 0) {
    has_left = 1;
    return 1;
  }
  each->done = exchanged;
  return find(coming, each->path, &found) == 0 && is_same(&each->old, &found);
}

static int take_away(struct record *each, long index) {
  struct status found;
  char *name;
  int at, result;
  if (each->old.inode == 0) return 1;
  at = open_parent(each->path, &name);
  if (at < 0) return 1;
  result = rename_to(at, name, going, number(index), no_replace);
  if (result == not_there) return 1;
  if (result < 0) {
    has_left = 1;
    return 1;
  }
  each->done = removed;
  return find(going, number(index), &found) == 0 && is_same(&each->old, &found);
}

/* Whether what was replaced is still as it was: somebody may have had it open. */
static int look_last(struct record *each, long index) {
  struct status found;
  if (each->done == exchanged) return find(coming, each->path, &found) == 0 && is_same(&each->old, &found);
  if (each->done == removed) return find(going, number(index), &found) == 0 && is_same(&each->old, &found);
  return 1;
}

/* What was written over since it came stays: then it is what somebody wants. */
static void take_back(struct record *each, long index) {
  struct status found;
  char *name;
  int at = open_parent(each->path, &name);
  if (at < 0) return;
  if (each->done == removed) rename_to(going, number(index), at, name, no_replace);
  else if (each->done == nothing || find(at, name, &found) < 0 || !is_same(&each->now, &found)) return;
  else if (each->done == placed) rename_to(at, name, coming, each->path, no_replace);
  else if (each->done == exchanged) rename_to(coming, each->path, at, name, exchange);
  each->done = nothing;
}

static void read_list(const char *name) {
  long bytes, start = 0, at;
  int list = call4(sys_openat, here, (long)name, read_only | no_follow, 0);
  if (list < 0) give_up();
  for (at = 0; (bytes = read_some(list, text + at, list_bytes - at)) > 0; at += bytes)
    ;
  if (bytes < 0 || at == list_bytes) give_up();
  call(sys_close, list, 0, 0);
  for (bytes = at, at = 0; at < bytes; at++) {
    if (text[at]) continue;
    if (count == most_records) give_up();
    records[count].kind = text[start];
    records[count++].path = text + start + 1;
    start = at + 1;
  }
}

static void read_mark(void) {
  struct status known;
  if (find(here, ".git/banger-looked", &known) < 0 && find(here, ".git/banger-quiet", &known) < 0) leave(3);
  since.seconds = known.modified.seconds;
  since.nanoseconds = known.modified.nanoseconds;
}

static void put_own(struct record *each) {
  struct status found;
  if (find(coming, each->path, &found) < 0) return;
  if (rename_to(coming, each->path, here, each->path, 0) < 0) leave(1);
}

void place(long *stack) {
  const char **words = (const char **)(stack + 1);
  long at;
  int is_changed = 0;
  if (stack[0] < 5) {
    say("usage: place PATH LIST NEW OLD [again]\n");
    leave(2);
  }
  is_again = stack[0] > 5;
  here = open_directory(at_cwd, words[1]);
  read_mark();
  coming = open_directory(here, words[3]);
  call(sys_mkdirat, here, (long)words[4], 0700);
  going = open_directory(here, words[4]);
  read_list(words[2]);
  for (at = 0; at < count; at++) {
    struct record *each = records + at;
    if (each->kind == 'm' || look_first(each, at)) continue;
    if (is_again) each->done = skipped;
    else {
      is_changed = 1;
      tell(each->path);
    }
  }
  for (at = 0; at < count && !is_changed; at++) {
    struct record *each = records + at;
    if (each->kind == 'm' || each->done == skipped) continue;
    if (each->kind == 'r' ? take_away(each, at) : put(each, at)) continue;
    is_changed = !is_again;
    if (is_again) take_back(each, at);
    else if (each->done == nothing) tell(each->path);
  }
  for (at = 0; at < count && !is_again; at++) {
    if (look_last(records + at, at)) continue;
    is_changed = 1;
    tell(records[at].path);
  }
  if (is_changed) {
    for (at = count; at-- > 0;)
      if (records[at].done != nothing) take_back(records + at, at);
    write_all(1, output, filled);
    leave(was_changed);
  }
  for (at = 0; at < count; at++)
    if (records[at].kind == 'm') put_own(records + at);
  leave(has_left ? left_over : 0);
}

START(place);
