/*
 * look PATH MOST: what may have changed in the workspace PATH since all of it was known to be as it was sent.
 * look -c PATH MOST: the same by name only, whatever git's own files are.
 * look -m PATH: leaves a mark of the time in it; look -t PATH: one that knows the directories, too.
 * look -n PATH: which of the paths that come in, from PATH on, were changed since it was looked at.
 *
 * `.git/banger-quiet` is such a mark, of a time when all was as sent. Whatever was changed later, or came to its place
 * later, has a time of change (ctime) that is not older, which nobody can set. The times hold only while the guest's
 * clock is not set, so the mark says how that stood to the time since boot. It also tells git's index of then.
 *
 * A directory that came to the place of another has a new time of change, and what is in it has not. So a mark names the
 * directories that there were, by path and inode, and of any other one all that is in it is told. Where the directory
 * above has no new time of change, it is the one of then.
 *
 * Each look but -c leaves `.git/banger-looked` first: the next mark, when what it tells turns out to be as sent. What it
 * tells, each ended by a zero byte: `f` or `x`, a file's SHA-1 as git has it, and its path; `l` likewise for a symlink; `d`
 * and the path of a directory in which names came or went, `n` and that of one of which all is told, and after an `e` the
 * path of each that is in such directories now, those of directories with a slash. A dot ends it. Where it cannot say, it
 * ends with 3, and git has to look: no mark, changes in the repository itself, more than MOST files and directories,
 * anything odd.
 *
 * With -c nothing is read, of a file or symlink there are `f` or `l` and its path, and nothing is left behind. Of the
 * repository, only what decides which files git looks at and how must be as it was. It ends with 3, too, where a thousand
 * files are told.
 *
 * With -n, paths come in each ended by a zero byte, and go out each in a line; of a directory all files in it are meant.
 * Those below `.git` count by when they were written: git's files get second names, and are always written anew. It ends
 * with 3 only before it has read anything.
 */

#include "system.h"
#include "files.h"
#include "sha1.h"
#include "marks.h"

enum { largest_file = 4 << 20, most_output = 4 << 20, most_named = 1000 };

static long left;
static char output[65536];
static long filled, printed;
static int is_reading;

/* By name only; how many have been told so, or for the sake of their directory. */
static int is_naming;
static long named;

static unsigned long top_device;

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

/* By -c. */
static void name_file(int is_link, long end) {
  print(is_link ? "l" : "f", 1);
  print(path, end + 1);
}

/*
 * What is in a directory whose path, with a slash unless it is the workspace, is the first `end` bytes of `path`. It has
 * not changed, names came or went in it, or all that is in it is to be told.
 */
enum { is_same_directory, has_other_names, is_other_directory };
static void look_into(int here, long end, int depth, int state) {
  struct listing listing;
  struct status found;
  struct entry *entry;
  list(&listing, here, depth);
  while ((entry = next(&listing))) {
    const char *name = entry->name;
    int type;
    long length;
    if (name[0] == '.' && is(name, ".git")) {
      if (depth == 0) continue;
      /* A repository inside is git's to look into. */
      give_up();
    }
    if (--left < 0) give_up();
    look_at(here, name, &found);
    /* What is mounted over a file may be of any time. */
    if (found.device != top_device) give_up();
    type = found.mode & type_mask;
    if (type == type_directory) {
      int inner = open_directory(here, name), inner_state = is_same_directory;
      unsigned long told;
      if (depth + 1 == deepest) give_up();
      length = append(end, name);
      path[length++] = '/';
      path[length] = 0;
      told = name_of(found.inode, length);
      note_directory(told);
      if (state == is_other_directory || (state == has_other_names && is_new(&found) && !*place_of(told)))
        inner_state = is_other_directory;
      else if (is_new(&found)) inner_state = has_other_names;
      if (state) {
        print("e", 1);
        print(path, length + 1);
      }
      if (inner_state) {
        print(inner_state == is_other_directory ? "n" : "d", 1);
        print(path, length + 1);
      }
      look_into(inner, length, depth + 1, inner_state);
      call(sys_close, inner, 0, 0);
      continue;
    }
    if (!state && !is_new(&found)) continue;
    length = append(end, name);
    if (state) {
      print("e", 1);
      print(path, length + 1);
    }
    if (state != is_other_directory && !is_new(&found)) continue;
    if (type != type_file && type != type_symlink) give_up();
    /* Of another directory all is read, which may be much, and for nothing. */
    if ((is_naming || !is_new(&found)) && ++named > most_named) give_up();
    if (is_naming) name_file(type == type_symlink, length);
    else {
      if (type == type_file) print_file(here, name, &found);
      else print_symlink(here, name);
      print(path, length + 1);
    }
  }
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

/* What decides which files git looks at, and how it reads them. */
static void look_at_settings(int repository) {
  struct status found;
  int information;
  look_at(repository, "config", &found);
  if (is_new(&found)) give_up();
  if (call4(sys_newfstatat, repository, (long)"config.worktree", (long)&found, symlink_itself) == 0) give_up();
  if (call4(sys_newfstatat, repository, (long)"info", (long)&found, symlink_itself) < 0) return;
  if (is_new(&found)) give_up();
  information = open_directory(repository, "info");
  look_into_repository(information, 1);
  call(sys_close, information, 0, 0);
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
  int here, repository, mark;
  is_naming = stack[0] == 4 && is(first, "-c");
  if (is_naming) {
    first = second;
    second = (const char *)stack[4];
  } else if (stack[0] != 3) {
    say("usage: look [-c] PATH MOST, look -m PATH, look -t PATH, or look -n PATH\n");
    leave(2);
  }
  if (is(first, "-m") || is(first, "-t")) {
    here = open_directory(at_cwd, second);
    mark = leave_mark(open_directory(here, ".git"));
    if (is(first, "-t")) {
      note_directories(here, 0, 0);
      name_directories(mark);
    }
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
  left = number(second);
  if (is_naming) look_at_settings(repository);
  else {
    mark = leave_mark(repository);
    look_into_repository(repository, 0);
  }
  call4(sys_newfstatat, here, (long)".", (long)&found, 0);
  top_device = found.device;
  if (is_new(&found)) print("d", 2);
  look_into(here, 0, 0, is_new(&found) ? has_other_names : is_same_directory);
  if (!is_naming) name_directories(mark);
  print(".", 2);
  flush();
  leave(0);
}

START(look);
