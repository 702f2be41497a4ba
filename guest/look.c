/*
 * look PATH MOST: what may have changed in the workspace PATH since all of it was known to be as it was sent.
 * look -m PATH: leaves a mark of the time in it.
 * look -n PATH: which of the paths that come in, from PATH on, were changed since it was looked at.
 *
 * `.git/banger-quiet` is such a mark, of a time when all was as sent. Whatever was changed later, or came to its place
 * later, has a time of change (ctime) that is not older, which nobody can set. The times hold only while the guest's
 * clock is not set, so the mark says how that stood to the time since boot. It also tells git's index of then.
 *
 * Each look leaves `.git/banger-looked` first: the next mark, when what it tells turns out to be as sent. What it tells,
 * each ended by a zero byte: `f` or `x`, a file's SHA-1 as git has it, and its path; `l` likewise for a symlink; `d` and
 * the path of a directory in which names came or went, and after an `e` the path of each that is there now, those of
 * directories with a slash. A dot ends it. Where it cannot say, it ends with 3, and git has to look: no mark, changes in
 * the repository itself, more than MOST files and directories, anything odd.
 *
 * With -n, paths come in each ended by a zero byte, and go out each in a line; of a directory all files in it are meant.
 * Those below `.git` count by when they were written: git's files get second names, and are always written anew. It ends
 * with 3 only before it has read anything.
 */

#include "system.h"
#include "files.h"
#include "sha1.h"

enum { largest_file = 4 << 20, most_output = 4 << 20 };

/* A clock that is not set drifts less than this while it is corrected by little. */
static const long steady = 50 * 1000 * 1000;

/* What a mark says, besides by its age. */
struct identity {
  long inode, size, seconds, nanoseconds;
};
struct mark {
  long offset;
  struct identity index;
};

static struct mark marked;
static struct time since;
static long left;
static char path[path_bytes];
static char output[65536];
static long filled, printed;
static int is_reading;

static void give_up(void) {
  leave(is_reading ? 1 : 3);
}

static void flush(void) {
  if (!write_all(1, output, filled)) leave(1);
  filled = 0;
}

static void print(const char *text, long length) {
  if ((printed += length) > most_output) give_up();
  while (length-- > 0) {
    if (filled == sizeof output) flush();
    output[filled++] = *text++;
  }
}

static void print_hash(void) {
  char text[40];
  hash_text(text);
  print(text, sizeof text);
}

static char content[65536];

static void print_file(int parent, const char *name, const struct status *known) {
  long bytes, read = 0;
  int file = call4(sys_openat, parent, (long)name, read_only | no_follow, 0);
  if (file < 0 || known->size > largest_file) give_up();
  begin_blob(known->size);
  while ((bytes = read_some(file, content, sizeof content)) > 0) {
    digest(content, bytes);
    read += bytes;
  }
  if (bytes < 0 || read != known->size) give_up();
  call(sys_close, file, 0, 0);
  print(known->mode & 0100 ? "x" : "f", 1);
  print_hash();
}

static void print_symlink(int parent, const char *name) {
  long length = call4(sys_readlinkat, parent, (long)name, (long)content, sizeof content);
  if (length < 0) give_up();
  begin_blob(length);
  digest(content, length);
  print("l", 1);
  print_hash();
}

static int is_new(const struct status *known) {
  if (known->changed.seconds != since.seconds) return known->changed.seconds > since.seconds;
  return known->changed.nanoseconds >= since.nanoseconds;
}

/* What is in a directory whose path, with a slash unless it is the workspace, is the first `end` bytes of `path`. */
static void look_into(int here, long end, int depth, int changed) {
  struct listing listing;
  struct status found;
  struct entry *entry;
  list(&listing, here, depth);
  while ((entry = next(&listing))) {
    long length = length_of(entry->name), at;
    int type;
    if (depth == 0 && is(entry->name, ".git")) continue;
    /* A repository inside is git's to look into. */
    if (--left < 0 || is(entry->name, ".git") || end + length + 2 > path_bytes) give_up();
    look_at(here, entry->name, &found);
    type = found.mode & type_mask;
    for (at = 0; at < length; at++) path[end + at] = entry->name[at];
    if (type == type_directory) path[end + length++] = '/';
    path[end + length] = 0;
    if (changed) {
      print("e", 1);
      print(path, end + length + 1);
    }
    if (type == type_directory) {
      int inner = open_directory(here, entry->name);
      if (depth + 1 == deepest) give_up();
      if (is_new(&found)) {
        print("d", 1);
        print(path, end + length + 1);
      }
      look_into(inner, end + length, depth + 1, is_new(&found));
      call(sys_close, inner, 0, 0);
      continue;
    }
    if (!is_new(&found)) continue;
    if (type == type_file) print_file(here, entry->name, &found);
    else if (type == type_symlink) print_symlink(here, entry->name);
    else give_up();
    print(path, end + length + 1);
  }
}

/* Git writes its index anew and never into it. Second names change its time of change, and nothing of this. */
static void identify(int repository, struct identity *into) {
  struct status found;
  into->inode = into->size = into->seconds = into->nanoseconds = 0;
  if (call4(sys_newfstatat, repository, (long)"index", (long)&found, symlink_itself) < 0) return;
  into->inode = found.inode;
  into->size = found.size;
  into->seconds = found.modified.seconds;
  into->nanoseconds = found.modified.nanoseconds;
}

/* It is the one that there was at the mark, or has the second name of one that was sent or looked at. */
static int is_known_index(int repository, const struct status *index) {
  struct identity now;
  struct status own;
  identify(repository, &now);
  return same((const char *)&now, (const char *)&marked.index, sizeof now) ||
         (call4(sys_newfstatat, repository, (long)"banger-own-index", (long)&own, symlink_itself) == 0 &&
          own.inode == index->inode);
}

/*
 * Git's own files: whoever changes them stages, commits, or changes what git ignores. Our own come and go, also in
 * `refs`.
 */
static void look_into_repository(int here, int depth) {
  struct listing listing;
  struct status found;
  struct entry *entry;
  list(&listing, here, depth);
  while ((entry = next(&listing))) {
    const char *name = entry->name;
    int is_refs = depth == 0 && is(name, "refs");
    if (depth == 0 && (is(name, "objects") || is(name, "logs") || is(name, "hooks"))) continue;
    if (depth == 0 ? same(name, "banger-", 7) : depth == 1 && is(name, "banger")) continue;
    if (--left < 0) give_up();
    look_at(here, name, &found);
    if (is_new(&found) && !is_refs && !(depth == 0 && is(name, "index") && is_known_index(here, &found))) give_up();
    if ((found.mode & type_mask) == type_directory && (depth > 0 || is_refs || is(name, "info"))) {
      int inner = open_directory(here, name);
      if (depth + 1 == deepest) give_up();
      look_into_repository(inner, depth + 1);
      call(sys_close, inner, 0, 0);
    }
  }
}

/* How the time of day stands to the time since boot, in nanoseconds. */
static long clock_offset(void) {
  struct time day, boot;
  call(sys_clock_gettime, real_time, (long)&day, 0);
  call(sys_clock_gettime, since_boot, (long)&boot, 0);
  return (day.seconds - boot.seconds) * 1000000000 + day.nanoseconds - boot.nanoseconds;
}

static void leave_mark(int repository) {
  struct mark now;
  int mark = call4(sys_openat, repository, (long)"banger-looked", write_only | create | truncate | no_follow, 0600);
  now.offset = clock_offset();
  identify(repository, &now.index);
  if (mark < 0 || !write_all(mark, &now, sizeof now)) give_up();
  call(sys_close, mark, 0, 0);
}

static void read_mark(int repository, const char *name) {
  struct status known;
  long drift;
  int mark = call4(sys_openat, repository, (long)name, read_only | no_follow, 0);
  if (mark < 0 || call(sys_fstat, mark, (long)&known, 0) < 0) give_up();
  if (read_some(mark, &marked, sizeof marked) != sizeof marked) give_up();
  call(sys_close, mark, 0, 0);
  since.seconds = known.modified.seconds;
  since.nanoseconds = known.modified.nanoseconds;
  drift = clock_offset() - marked.offset;
  if (drift > steady || drift < -steady) give_up();
}

static long number(const char *text) {
  long found = 0;
  while (*text >= '0' && *text <= '9' && found < 1000000000) found = found * 10 + (*text++ - '0');
  return found;
}

/* Of what is not a directory; its path is the first `end` bytes of `path`. */
static void tell_newer(const struct status *found, long end) {
  struct status counted;
  counted.changed.seconds = found->changed.seconds;
  counted.changed.nanoseconds = found->changed.nanoseconds;
  if (same(path, ".git/", 5)) {
    counted.changed.seconds = found->modified.seconds;
    counted.changed.nanoseconds = found->modified.nanoseconds;
  }
  if (!is_new(&counted)) return;
  path[end] = '\n';
  print(path, end + 1);
}

static void tell_newer_in(int here, long end, int depth) {
  struct listing listing;
  struct status found;
  struct entry *entry;
  list(&listing, here, depth);
  while ((entry = next(&listing))) {
    long length = length_of(entry->name), at;
    if (end + length + 2 > path_bytes) give_up();
    look_at(here, entry->name, &found);
    for (at = 0; at < length; at++) path[end + at] = entry->name[at];
    path[end + length] = 0;
    if ((found.mode & type_mask) == type_directory) {
      int inner = open_directory(here, entry->name);
      if (depth + 1 == deepest) give_up();
      path[end + length] = '/';
      tell_newer_in(inner, end + length + 1, depth + 1);
      call(sys_close, inner, 0, 0);
    } else
      tell_newer(&found, end + length);
  }
}

/* What is not there any more, somebody has removed: nothing of it is lost. */
static void tell_newer_of(int here) {
  struct status found;
  long end;
  if (call4(sys_newfstatat, here, (long)path, (long)&found, symlink_itself) < 0) return;
  end = length_of(path);
  if ((found.mode & type_mask) == type_directory) {
    int inner = open_directory(here, path);
    path[end] = '/';
    tell_newer_in(inner, end + 1, 0);
    call(sys_close, inner, 0, 0);
  } else
    tell_newer(&found, end);
}

static void tell_newer_of_input(int here) {
  long bytes, at, end = 0;
  is_reading = 1;
  while ((bytes = read_some(0, content, sizeof content)) > 0)
    for (at = 0; at < bytes; at++) {
      if (end == path_bytes - 2) give_up();
      path[end++] = content[at];
      if (end == 2 && same(path, "./", 2)) end = 0;
      if (content[at]) continue;
      tell_newer_of(here);
      end = 0;
    }
  if (bytes < 0) give_up();
}

void look(long *stack) {
  const char *first = (const char *)stack[2], *second = (const char *)stack[3];
  struct status found;
  int here, repository;
  if (stack[0] != 3) {
    say("usage: look PATH MOST, look -m PATH, or look -n PATH\n");
    leave(2);
  }
  if (is(first, "-m")) {
    leave_mark(open_directory(open_directory(at_cwd, second), ".git"));
    leave(0);
  }
  if (is(first, "-n")) {
    here = open_directory(at_cwd, second);
    read_mark(open_directory(here, ".git"), "banger-looked");
    tell_newer_of_input(here);
    flush();
    leave(0);
  }
  here = open_directory(at_cwd, first);
  repository = open_directory(here, ".git");
  read_mark(repository, "banger-quiet");
  leave_mark(repository);
  left = number(second);
  look_into_repository(repository, 0);
  call4(sys_newfstatat, here, (long)".", (long)&found, 0);
  if (is_new(&found)) print("d", 2);
  look_into(here, 0, 0, is_new(&found));
  print(".", 2);
  flush();
  leave(0);
}

START(look);
