/** Paths in the guest's repository that belong to an update under way. */
export const updateNames = {
  /** What arrives, until all of it has */
  part: '.git/banger-next.part',
  /** All of it: from here on it is carried out, by whoever comes next */
  archive: '.git/banger-next',
  /** The first member of the archive */
  script: '.git/banger-update',
  /** Another: which files are put in the place of others; see `guest/place.c` */
  list: '.git/banger-list',
  /** Where members of the archive wait for that */
  coming: '.git/banger-coming',
  /** What they replace, until all is done */
  going: '.git/banger-going',
  /** Paths at which the last update left what was there, each ended by a zero byte; see `keepBefore` */
  kept: '.git/banger-kept',
  /** Which objects are made of files that come; see `guest/blobs.c` */
  blobs: '.git/banger-blobs',
  index: '.git/banger-next-index',
  /** Followed by a dash and a number */
  text: '.git/banger-next-text',
  /** Names the last sending whose files are in place */
  sent: '.git/banger-sent',
  /** As old as the last look at what the guest changed */
  looked: '.git/banger-looked',
  /** One at which nothing was; see `guest/look.c` */
  quiet: '.git/banger-quiet',
} as const;

/** How a script ends when somebody changed what would be replaced, after it was looked at; also `guest/place.c`. */
export const changedMeanwhile = 76;
