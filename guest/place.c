/*
 * place PATH LIST NEW OLD [again]: puts files in the place of others in the workspace PATH, none of which was changed
 * since it was looked at. LIST, NEW and OLD are in it: what is to be done, the files that come, and what they replace.
 * place lock: waits until nobody else has the lock of the directory that it gets as its input, and takes that for whoever
 * opened it. It ends with the last program that has the directory open.
 *
 * Each record of LIST ends with a zero byte: `r` and the path of a file that goes, `d` and that of a directory that is
 * needed, `w` and that of a file that comes or is replaced, `t`, a time in seconds, a slash and that of one which is to bear
 * that time instead of that of its arrival, `e` and that of a directory which goes if it is empty, `m` and that of a file of
 * the repository's own, which nobody else knows of.
 *
 * What is to give way is looked at first: a time of change (ctime) that is not older than the mark, `.git/banger-looked` or
 * `.git/banger-quiet`, says that somebody changed it. Of a directory all that is in it counts. Then it changes places with
 * what comes, in one step, and is looked at again, where nobody finds it by its path any more: who wrote it in between, or
 * put another in its place, has changed its inode, size, mode or time. If one was changed, all go back. So nothing is
 * replaced that nobody has seen. Where files cannot change places, what is there is moved away first.
 *
 * With `again` it goes on where it was ended. What was changed meanwhile stays as it is then, and what was to come in its
 * place goes with NEW. So does what cannot be replaced, such as what something is mounted on, also the first time.
 *
 * It tells the paths of what was changed, or stays, each ended by a zero byte. It ends with 0, with 4 when something stays
 * that nobody has changed, with 76 when something was changed and all is as it was, and with 3 when it cannot tell and has
 * done nothing.
 */

#include "system.h"
#include "files.h"
#include "names.h"
#include "replace.h"

enum { sys_flock = 73, locked_alone = 2, cannot_tell = 3, stays = 4, was_changed = 76 };

static struct record *records;
static long count;
static char output[65536];
static long filled;

static void flush(void) {
  if (!write_all(1, output, filled)) leave(1);
  filled = 0;
}

static void tell(const char *path) {
  do {
    if (filled == sizeof output) flush();
    output[filled++] = *path;
  } while (*path++);
}

/* Each record's number is that of its line, which makes it the same in each run. */
static void read_list(const char *name) {
  struct status found;
  char *text, *end, *at;
  int list = call4(sys_openat, here, (long)name, read_only | no_follow, 0);
  if (list < 0 || call(sys_fstat, list, (long)&found, 0) < 0) give_up();
  if (found.size == 0) return;
  text = map(found.size, list);
  end = text + found.size;
  if (end[-1]) give_up();
  for (at = text; at < end; at++) count += !*at;
  records = (struct record *)map(count * sizeof *records, -1);
  for (at = text, count = 0; at < end; at += length_of(at) + 1) {
    struct record *each = records + count++;
    each->kind = *at;
    each->path = at + 1;
    if (*at != 't') continue;
    for (each->kind = 'w', each->path = at + 1; *each->path >= '0' && *each->path <= '9'; each->path++)
      each->time = each->time * 10 + (*each->path - '0');
    each->bears_time = 1;
    if (*each->path++ != '/') give_up();
  }
}

/* Without one, nobody knows what was changed: then all that is there counts as that. */
static void read_mark(void) {
  struct status known;
  if (find(here, ".git/banger-looked", &known) < 0 && find(here, ".git/banger-quiet", &known) < 0) {
    if (!is_again) leave(cannot_tell);
    return;
  }
  since.seconds = known.modified.seconds;
  since.nanoseconds = known.modified.nanoseconds;
}

static int is_of_tree(const struct record *each) {
  return each->kind == 'r' || each->kind == 'd' || each->kind == 'w';
}

/* Whether one was changed, so that all have to go back. */
static int look_at_all(void) {
  long at;
  int found = 0;
  for (at = 0; at < count; at++) {
    struct record *each = records + at;
    if (!is_of_tree(each) || (is_again && is_done(each, at)) || look_first(each, at)) continue;
    each->done = is_again ? skipped : changed;
    found |= !is_again;
  }
  return found;
}

static int replace_all(void) {
  long at;
  int found = 0;
  for (at = 0; at < count && !found; at++) {
    struct record *each = records + at;
    if (!is_of_tree(each) || each->done || replace(each, at)) continue;
    if (is_again) {
      take_back(each, at);
      each->done = skipped;
    } else
      found = each->done |= changed;
  }
  /* Somebody may have had one open. */
  for (at = 0; at < count && !is_again; at++)
    if (!look_last(records + at, at)) found = records[at].done |= changed;
  return found;
}

static void finish_all(void) {
  long at;
  for (at = 0; at < count; at++) {
    struct record *each = records + at;
    if (each->kind == 'm') put_own(each);
    else if (each->kind == 'e') remove_if_empty(each);
    else drop_far(each, at);
  }
}

static void tell_all(int flags) {
  long at;
  for (at = 0; at < count; at++)
    if (is_of_tree(records + at) && records[at].done & flags) tell(records[at].path);
  flush();
}

static int do_all(void) {
  long at;
  if (look_at_all() || replace_all()) {
    for (at = count; at-- > 0;)
      if (is_of_tree(records + at)) take_back(records + at, at);
    tell_all(changed);
    return was_changed;
  }
  finish_all();
  tell_all(skipped | left);
  for (at = 0; at < count; at++)
    if (records[at].done & left) return stays;
  return 0;
}

/* Where there are no locks it goes on without. */
static void lock(void) {
  long result;
  do result = call(sys_flock, 0, locked_alone, 0);
  while (result == interrupted);
  leave(0);
}

void place(long *stack) {
  const char **words = (const char **)(stack + 1);
  if (stack[0] == 2 && is(words[1], "lock")) lock();
  if (stack[0] < 5) {
    say("usage: place PATH LIST NEW OLD [again], or place lock\n");
    leave(2);
  }
  is_again = stack[0] > 5;
  here = open_directory(at_cwd, words[1]);
  read_mark();
  coming = open_directory(here, words[3]);
  call(sys_mkdirat, here, (long)words[4], 0700);
  going = open_directory(here, words[4]);
  read_list(words[2]);
  leave(do_all());
}

START(place);
