/*
 * Names that files get and lose, and memory for what is known of many.
 */

enum { sys_mmap = 9, sys_unlinkat = 263, sys_linkat = 265, sys_symlinkat = 266, sys_renameat2 = 316 };
enum { no_replace = 1, exchange = 2, remove_directory = 0x200, alone = 0200 };
enum { not_there = -2, exists = -17, other_filesystem = -18, not_valid = -22 };
enum { may_be_read = 1, may_be_written = 2, own_copy = 2, of_no_file = 0x20 };

/* A call with six words, which come as the kernel wants them but for the fourth. */
long call6(long first, long second, long third, long fourth, long fifth, long sixth, long number);
__asm__("call6:\n  mov %rcx, %r10\n  mov 8(%rsp), %rax\n  syscall\n  ret\n");

/* A file of its own, which nobody sees, or zero bytes. */
static char *map(long bytes, int file) {
  long found = call6(0, bytes, may_be_read | may_be_written, own_copy | (file < 0 ? of_no_file : 0), file, 0, sys_mmap);
  if (found < 0 && found > -4096) give_up();
  return (char *)found;
}

static int find(int parent, const char *name, struct status *into) {
  return call4(sys_newfstatat, parent, (long)name, (long)into, symlink_itself);
}

static int is_directory(const struct status *found) {
  return (found->mode & type_mask) == type_directory;
}

static int rename_to(int from, const char *name, int to, const char *wanted, int how) {
  return call6(from, (long)name, to, (long)wanted, how, 0, sys_renameat2);
}

static int link_to(int from, const char *name, int to, const char *wanted) {
  return call6(from, (long)name, to, (long)wanted, 0, 0, sys_linkat);
}

static int unlink_in(int parent, const char *name, int how) {
  return call(sys_unlinkat, parent, (long)name, how);
}

/* Gives something a name that nothing has, also where the filesystem knows no such renaming. */
static int rename_new(int from, const char *name, int to, const char *wanted) {
  struct status found;
  int result = rename_to(from, name, to, wanted, no_replace);
  if (result != not_valid) return result;
  result = link_to(from, name, to, wanted);
  if (result == 0) return unlink_in(from, name, 0);
  if (result == exists || find(to, wanted, &found) == 0) return exists;
  return rename_to(from, name, to, wanted, 0);
}

/* To another filesystem: all of it has come before it has its name. */
static int copy_to(int source, const char *path, int at, const char *name) {
  static char content[65536];
  const char *part = ".banger-coming";
  struct status came;
  long bytes = -1, is_written = 1;
  int from, to, result = find(source, path, &came);
  if (result < 0) return result;
  unlink_in(at, part, 0);
  if ((came.mode & type_mask) == type_symlink) {
    bytes = call4(sys_readlinkat, source, (long)path, (long)content, sizeof content - 1);
    if (bytes < 0) return bytes;
    content[bytes] = 0;
    result = call(sys_symlinkat, (long)content, at, (long)part);
  } else {
    from = call4(sys_openat, source, (long)path, read_only | no_follow, 0);
    to = call4(sys_openat, at, (long)part, write_only | create | alone | no_follow, came.mode & 07777);
    if (from < 0 || to < 0) result = from < 0 ? from : to;
    else
      while (is_written && (bytes = read_some(from, content, sizeof content)) > 0)
        is_written = write_all(to, content, bytes);
    if (from >= 0) call(sys_close, from, 0, 0);
    if (to >= 0) call(sys_close, to, 0, 0);
    if (result == 0 && (bytes < 0 || !is_written)) result = -1;
  }
  if (result == 0) result = rename_new(at, part, at, name);
  if (result < 0) unlink_in(at, part, 0);
  else unlink_in(source, path, 0);
  return result;
}
