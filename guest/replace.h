/*
 * How `place` replaces one file: looks at what is there, lets it give way, and takes that back. Each function gets a record
 * and its number.
 */

enum { sys_mkdirat = 258, path_only = 010000000 };

/* What is known of a file without reading it. */
struct state {
  unsigned long inode;
  long size;
  unsigned mode;
  struct time modified;
};

/* What was done of a record; the last three: why not. */
enum { exchanged = 1, moved = 2, put = 4, settled = 8, skipped = 16, left = 32, changed = 64 };

struct record {
  char *path;
  long time;
  char kind, bears_time, is_far, done;
  struct state old, now;
};

static struct time since;
static int here, coming, going, is_again, has_begun;

static void give_up(void) {
  leave(has_begun || is_again ? 1 : 3);
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

/* Whether anything in a directory was changed. What cannot be looked into counts as that. */
static int has_new(int parent, const char *name, int depth) {
  struct listing listing;
  struct status found;
  struct entry *entry;
  int result = depth == deepest;
  int inner = call4(sys_openat, parent, (long)name, read_only | directory | no_follow, 0);
  if (inner < 0) return inner != not_there;
  if (!result) list(&listing, inner, depth);
  while (!result && (entry = next(&listing))) {
    if (find(inner, entry->name, &found) < 0) continue;
    result = is_directory(&found) ? has_new(inner, entry->name, depth + 1) : is_new(&found.changed);
  }
  call(sys_close, inner, 0, 0);
  return result;
}

/* A name of a record's own: in OLD, or beside what it replaces, where OLD is on another filesystem. */
static const char *name_aside(const struct record *each, long index) {
  static char name[48];
  const char *begin = ".banger-going-";
  char *at = name + sizeof name - 1;
  long length = length_of(begin);
  do *--at = '0' + index % 10;
  while ((index /= 10));
  if (each->is_far)
    while (length) *--at = begin[--length];
  return at;
}

static char parent_path[path_bytes];
static int parent = -1;

/* The directory that a path is in, if no symlink leads there; its last name goes to `name`. */
static int open_parent(char *path, char **name) {
  long end = length_of(path), from = 0, at;
  while (end > 0 && path[end - 1] != '/') end--;
  *name = path + end;
  if (end == 0) return here;
  if (end >= path_bytes) return not_there;
  if (parent >= 0 && same(path, parent_path, end) && parent_path[end] == 0) return parent;
  if (parent >= 0) call(sys_close, parent, 0, 0);
  parent = -1;
  for (at = 0; at < end; at++) parent_path[at] = path[at];
  parent_path[end] = 0;
  for (at = 0; at < end; at++) {
    int outer = parent < 0 ? here : parent;
    const char *inner = parent_path + from;
    if (parent_path[at] != '/') continue;
    parent_path[at] = 0;
    parent = is(inner, "..") ? not_there : call4(sys_openat, outer, (long)inner, path_only | directory | no_follow, 0);
    parent_path[at] = '/';
    if (outer != here) call(sys_close, outer, 0, 0);
    if (parent < 0) break;
    from = at + 1;
  }
  return parent;
}

/* Puts back what was written after it was looked at, unless what came in its place was, too: then it bears another time. */
static int put_back(const struct record *each, long index, int at, const char *name) {
  struct status came;
  if (each->kind == 'r') return rename_new(going, name_aside(each, index), at, name) == 0;
  if (find(at, name, &came) < 0) return 0;
  if (came.modified.seconds == came.changed.seconds && came.modified.nanoseconds == came.changed.nanoseconds) return 0;
  return rename_to(coming, each->path, at, name, exchange) == 0;
}

/* By a run that was ended. Of what changed places the old one has a second name, or is a directory. */
static int is_done(struct record *each, long index) {
  struct status saved, other;
  char *name;
  int at = open_parent(each->path, &name), is_changed = 0;
  int is_there = each->kind == 'w' ? find(coming, each->path, &other) == 0 : at >= 0 && find(at, name, &other) == 0;
  int is_saved = find(going, name_aside(each, index), &saved) == 0;
  int is_old = is_there && is_saved && saved.inode == other.inode;
  if (each->kind == 'd' || (each->kind == 'r' && (is_old || !is_saved))) return 0;
  if (each->kind == 'r') is_changed = is_new(&saved.modified);
  else if (is_old) is_changed = is_new(&other.modified);
  else if (is_there && is_directory(&other)) is_changed = has_new(coming, each->path, 0);
  else if (is_there) return 0;
  return each->done = is_changed && at >= 0 && put_back(each, index, at, name) ? skipped : settled;
}

/* What is to give way, as it is before anything is done. Whether it may. */
static int look_first(struct record *each, long index) {
  struct status found, saved;
  char *name;
  int at = open_parent(each->path, &name);
  if (at < 0 || find(at, name, &found) < 0 || (is_directory(&found) && each->kind != 'w')) return 1;
  keep(&each->old, &found);
  if (is_directory(&found)) return !has_new(at, name, 0);
  if (!is_new(&found.changed)) return 1;
  /* It was given another name, or moved away and back, by a run that was ended. */
  return is_again && find(going, name_aside(each, index), &saved) == 0 && saved.inode == found.inode &&
         !is_new(&found.modified);
}

static int is_as_seen(const struct record *each, int at, const char *name) {
  struct status found;
  if (find(at, name, &found) < 0) return 0;
  if (!is_directory(&found)) return is_same(&each->old, &found);
  return found.inode == each->old.inode && !has_new(at, name, 0);
}

static int is_aside_as_seen(const struct record *each, long index, int at) {
  return is_as_seen(each, each->is_far ? at : going, name_aside(each, index));
}

static void take_back(struct record *each, long index) {
  struct status found;
  char *name;
  int at = open_parent(each->path, &name), done = each->done;
  each->done &= changed;
  if (at < 0) return;
  if (each->kind == 'd' && done & put) unlink_in(at, name, remove_directory);
  else if (done & (put | exchanged)) {
    /* What was written over since it came stays: then it is what somebody wants. */
    if (find(at, name, &found) < 0 || !is_same(&each->now, &found)) return;
    if (done & exchanged) rename_to(coming, each->path, at, name, exchange);
    else if (each->is_far) unlink_in(at, name, 0);
    else rename_new(at, name, coming, each->path);
  }
  if (done & moved) rename_new(each->is_far ? at : going, name_aside(each, index), at, name);
}

/* Moves away what is there. False when that is not what was looked at. */
static int give_way(struct record *each, long index, int at, const char *name) {
  struct status saved;
  int result;
  if (find(going, name_aside(each, index), &saved) == 0 && saved.inode == each->old.inode)
    unlink_in(going, name_aside(each, index), 0);
  result = rename_new(at, name, going, name_aside(each, index));
  if (result == other_filesystem && (each->old.mode & type_mask) != type_directory) {
    each->is_far = 1;
    result = rename_new(at, name, at, name_aside(each, index));
  }
  if (result == not_there) return each->kind != 'w';
  each->done |= result < 0 ? left : moved;
  return result < 0 || is_aside_as_seen(each, index, at);
}

/* Puts what comes where nothing is. False when something is. */
static int come(struct record *each, long index, int at, const char *name) {
  struct status found;
  int result = rename_new(coming, each->path, at, name);
  if (result == other_filesystem) {
    each->is_far = 1;
    result = copy_to(coming, each->path, at, name);
    if (result == 0 && find(at, name, &found) == 0) keep(&each->now, &found);
  }
  if (result == 0) each->done |= put;
  else if (result != exists) {
    take_back(each, index);
    each->done = left;
  }
  return result != exists;
}

/* To the nanosecond: what was written just before may bear the same tick of the clock that the kernel goes by. */
static void set_time(const struct record *each) {
  struct time times[2];
  call(sys_clock_gettime, real_time, (long)times, 0);
  times[1].seconds = each->bears_time ? each->time : times[0].seconds;
  times[1].nanoseconds = each->bears_time ? 0 : times[0].nanoseconds;
  call4(sys_utimensat, coming, (long)each->path, (long)times, symlink_itself);
}

static int put_in_place(struct record *each, long index, int at, const char *name) {
  struct status found;
  int result = 0;
  if (find(coming, each->path, &found) < 0) return 1;
  /* What is built of the old one meanwhile is older than this. */
  set_time(each);
  if (find(coming, each->path, &found) == 0) keep(&each->now, &found);
  if (each->old.inode == 0) return come(each, index, at, name);
  /* A second name tells a later run what has changed places. */
  if ((each->old.mode & type_mask) != type_directory) result = link_to(at, name, going, name_aside(each, index));
  if (result == 0 || result == exists) result = rename_to(coming, each->path, at, name, exchange);
  if (result == not_there) return 0;
  if (result < 0) {
    if (!give_way(each, index, at, name)) return 0;
    return each->done & left ? 1 : come(each, index, at, name);
  }
  each->done |= exchanged;
  return is_as_seen(each, coming, each->path);
}

static int make_directory(struct record *each, long index, int at, const char *name) {
  struct status found;
  int result;
  if (each->old.inode && !give_way(each, index, at, name)) return 0;
  if (each->done & left) return 1;
  result = call(sys_mkdirat, at, (long)name, 0755);
  if (result == exists) return find(at, name, &found) == 0 && is_directory(&found);
  each->done |= result < 0 ? left : put;
  return 1;
}

/* False when what is there is not what was looked at. */
static int replace(struct record *each, long index) {
  char *name;
  int at = open_parent(each->path, &name);
  has_begun = 1;
  if (each->kind == 'r') return at < 0 || each->old.inode == 0 || give_way(each, index, at, name);
  if (at < 0) {
    each->done |= left;
    return 1;
  }
  return each->kind == 'd' ? make_directory(each, index, at, name) : put_in_place(each, index, at, name);
}

static int look_last(struct record *each, long index) {
  char *name;
  if (each->done & exchanged) return is_as_seen(each, coming, each->path);
  return !(each->done & moved) || is_aside_as_seen(each, index, open_parent(each->path, &name));
}

static void put_own(struct record *each) {
  struct status found;
  if (find(coming, each->path, &found) < 0) return;
  if (rename_to(coming, each->path, here, each->path, 0) < 0) leave(1);
}

static void remove_if_empty(struct record *each) {
  char *name;
  int at = open_parent(each->path, &name);
  if (at >= 0) unlink_in(at, name, remove_directory);
}

/* What OLD could not take. */
static void drop_far(struct record *each, long index) {
  char *name;
  int at = each->is_far || is_again ? open_parent(each->path, &name) : -1;
  if (at < 0) return;
  each->is_far = 1;
  unlink_in(at, name_aside(each, index), 0);
}
