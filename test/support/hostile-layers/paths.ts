import { directory, file, hardlink, symlink, tarOf, type EntrySpec } from '../tar-builder.ts';
import { numbered, plain, type HostileLayer } from './hostile-layer.ts';

/** Paths and links that point out of the image, or into each other. */
export const paths: readonly HostileLayer[] = [
  {
    title: 'a path with ".."',
    bytes: plain(file('a/../../x')),
    error: /has "\.\." in its path/,
    entry: 'a/../../x',
  },
  {
    title: 'a zero byte in a path',
    bytes: plain({ ...file('x'), pax: { path: 'a\0b' } }),
    error: /zero byte/,
    entry: 'a\\x00b',
  },
  {
    title: 'a path over PATH_MAX',
    bytes: plain(file('ab/'.repeat(1500))),
    error: /path of more than 4096 bytes/,
    entry: 'ab/ab/',
  },
  {
    title: 'a name over NAME_MAX',
    bytes: plain(file('n'.repeat(256))),
    error: /name of more than 255 bytes/,
    entry: 'nnnn',
  },
  { title: 'an absolute path', bytes: plain(file('/etc/passwd')) },
  { title: 'a drive-like path', bytes: plain(file('C:\\Windows\\x')) },
  { title: 'a path 2000 directories deep', bytes: plain(file(`${'d/'.repeat(2000)}f`)) },
  {
    title: 'a file through a symlink to the host',
    bytes: plain(symlink('out', '/../../../../tmp'), file('out/banger-escaped')),
  },
  {
    title: 'a file through a loop of symlinks',
    bytes: plain(symlink('a', 'b'), symlink('b', 'a'), file('a/x')),
    error: /loop of symlinks/,
    entry: 'a/x',
  },
  {
    title: 'hard links to nothing, each through 62,000 names',
    bytes: () => tarOf([...longWay(), ...numbered(40).map((n) => hardlink(`h${n}`, `way38/${n}`))]),
    // Twice for each: at the entry, and at the end of the layer.
    limits: { lookups: 40 * 2 * 65_000 },
    error: /has the hard link "h0" to "way38\/0", which is not there/,
  },
  {
    title: 'files, each through 62,000 names',
    bytes: () => tarOf([...longWay(), ...numbered(50).map((n) => file(`way38/${n}`))]),
    limits: { lookups: 3_000_000 },
    error: /takes the image over 3000000 names that have to be looked up/,
    entry: 'way38/48',
  },
  {
    title: 'a hard link out of the image',
    bytes: plain(hardlink('a', '../../etc/shadow')),
    error: /has "\.\." in its path/,
    entry: 'a',
  },
  {
    title: 'a hard link to nothing',
    bytes: plain(hardlink('a', 'etc/shadow')),
    error: /hard link "a" to "etc\/shadow", which is not there/,
  },
  { title: 'a hard link to itself', bytes: plain(hardlink('a', 'a')), error: /hard link "a" to "a"/ },
  {
    title: 'a hard link to a directory',
    bytes: plain(directory('d'), hardlink('a', 'd')),
    error: /hard link to the directory "d"/,
    entry: 'a',
  },
  {
    title: 'names that differ in case and in Unicode form',
    bytes: plain(file('A'), file('a'), file('\xc3\xa9'), file('e\xcc\x81')),
  },
];

/** Symlinks to symlinks, as many as may be followed, each as long as may be. */
function longWay(): EntrySpec[] {
  const detour = 'd/../'.repeat(810);
  return [
    directory('d'),
    symlink('way0', 'd'),
    ...numbered(38).map((n) => symlink(`way${n + 1}`, `${detour}way${n}`)),
  ];
}

/** Whiteouts that hide more than they may, or nothing at all. */
export const whiteouts: readonly HostileLayer[] = [
  {
    title: 'a whiteout of the root',
    bytes: plain(file('.wh.', '')),
    error: /is a whiteout of ""/,
    entry: '.wh.',
  },
  {
    title: 'a whiteout of ".."',
    bytes: plain(file('d/.wh...', '')),
    error: /is a whiteout of "\.\."/,
    entry: 'd/.wh...',
  },
  { title: 'a whiteout of nothing', bytes: plain(file('.wh.nothing', '')) },
  {
    title: 'an opaque mark through a symlink',
    below: [directory('d'), file('d/a'), symlink('l', 'd')],
    bytes: plain(file('l/.wh..wh..opq', '')),
  },
  {
    title: 'opaque marks, each over all files of the layer',
    below: [file('below')],
    bytes: () =>
      tarOf([
        ...numbered(3000).map((n) => file(`d/${n}`, '')),
        ...numbered(2000).map(() => file('d/.wh..wh..opq', '')),
      ]),
    limits: { lookups: 1_000_000 },
    error: /takes the image over 1000000 names that have to be looked up/,
    entry: 'd/.wh..wh..opq',
  },
  {
    title: 'a root that becomes a file',
    bytes: plain(file('.', '')),
    error: /replaces the root directory/,
    entry: '.',
  },
];
