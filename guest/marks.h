/*
 * Marks of a time at which a workspace is looked at: how the guest's clock stood then, which index git had, and which
 * directories there were. See `look.c`; `path` is the one that is looked at.
 */

static char path[path_bytes];

enum { most_directories = 1 << 16, places = 1 << 17 };

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
/* Of the directories that the mark knows; by their names. Of those that there are now. */
static unsigned long known_directories[places], directories[most_directories];
static long directory_count;

static int is_new(const struct status *known) {
  if (known->changed.seconds != since.seconds) return known->changed.seconds > since.seconds;
  return known->changed.nanoseconds >= since.nanoseconds;
}

/* What is told of a directory by which it is known again: FNV-1a of its path and inode. No two are likely to share one. */
static unsigned long name_of(unsigned long inode, long end) {
  unsigned long name = 0xcbf29ce484222325;
  long at;
  for (at = 0; at < end; at++) name = (name ^ (unsigned char)path[at]) * 0x100000001b3;
  for (at = 0; at < 8; at++) name = (name ^ (inode >> 8 * at & 255)) * 0x100000001b3;
  return name ? name : 1;
}

/* Where a name is among those of the mark, or would be. */
static unsigned long *place_of(unsigned long name) {
  long at = (name ^ name >> 32) % places;
  while (known_directories[at] && known_directories[at] != name) at = (at + 1) % places;
  return known_directories + at;
}

static void note_directory(unsigned long name) {
  if (directory_count < most_directories) directories[directory_count++] = name;
}

static long append(long end, const char *name) {
  while (*name) {
    if (end + 3 > path_bytes) give_up();
    path[end++] = *name++;
  }
  path[end] = 0;
  return end;
}

/* All directories. Of files nothing is asked: whatever comes later than the mark is newer than it. */
static void note_directories(int here, long end, int depth) {
  struct listing listing;
  struct status found;
  struct entry *entry;
  list(&listing, here, depth);
  while ((entry = next(&listing))) {
    long length;
    int inner;
    if (entry->type != entry_directory && entry->type != entry_unknown) continue;
    if (depth == 0 && is(entry->name, ".git")) continue;
    look_at(here, entry->name, &found);
    if ((found.mode & type_mask) != type_directory) continue;
    if (depth + 1 == deepest) return;
    length = append(end, entry->name);
    path[length++] = '/';
    note_directory(name_of(found.inode, length));
    inner = open_directory(here, entry->name);
    note_directories(inner, length, depth + 1);
    call(sys_close, inner, 0, 0);
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

/* How the time of day stands to the time since boot, in nanoseconds. */
static long clock_offset(void) {
  struct time day, boot;
  call(sys_clock_gettime, real_time, (long)&day, 0);
  call(sys_clock_gettime, since_boot, (long)&boot, 0);
  return (day.seconds - boot.seconds) * 1000000000 + day.nanoseconds - boot.nanoseconds;
}

static int leave_mark(int repository) {
  struct mark now;
  int mark = call4(sys_openat, repository, (long)"banger-looked", write_only | create | truncate | no_follow, 0600);
  now.offset = clock_offset();
  identify(repository, &now.index);
  if (mark < 0 || !write_all(mark, &now, sizeof now)) give_up();
  return mark;
}

/* The mark stays as old as it was. One that names no directories is as good for whatever else is asked of it. */
static void name_directories(int mark) {
  struct status known;
  struct time times[2];
  if (call(sys_fstat, mark, (long)&known, 0) < 0) give_up();
  times[0].seconds = times[1].seconds = known.modified.seconds;
  times[0].nanoseconds = times[1].nanoseconds = known.modified.nanoseconds;
  if (!write_all(mark, directories, directory_count * sizeof *directories)) give_up();
  if (call4(sys_utimensat, mark, 0, (long)times, 0) < 0) give_up();
}

static void read_mark(int repository, const char *name) {
  struct status known;
  long drift, bytes, at, count;
  int mark = call4(sys_openat, repository, (long)name, read_only | no_follow, 0);
  if (mark < 0 || call(sys_fstat, mark, (long)&known, 0) < 0) give_up();
  if (read_some(mark, &marked, sizeof marked) != sizeof marked) give_up();
  for (count = 0; (bytes = read_some(mark, directories, sizeof directories)) > 0;)
    for (at = 0; at < bytes / (long)sizeof *directories && count < most_directories; at++, count++)
      if (directories[at]) *place_of(directories[at]) = directories[at];
  call(sys_close, mark, 0, 0);
  since.seconds = known.modified.seconds;
  since.nanoseconds = known.modified.nanoseconds;
  drift = clock_offset() - marked.offset;
  if (drift > steady || drift < -steady) give_up();
}
