import { readdirSync, readFileSync } from 'node:fs';
import { basename, join, posix, relative, resolve } from 'node:path';
import ts from 'typescript';
import { expect, test } from 'vitest';

const root = resolve(import.meta.dirname, '..');

const forEverybody = ['src/errors.ts', 'src/printable.ts'];

/**
 * Who may import what of ours, types included. A folder ends in a slash and includes what is below it;
 * of several rules, the longest one holds. Everybody may import what `forEverybody` names, and their own folder.
 */
const importRules: readonly { readonly files: string; readonly mayImport: readonly string[] }[] = [
  { files: 'bin/', mayImport: ['src/'] },
  { files: 'src/errors.ts', mayImport: [] },
  { files: 'src/printable.ts', mayImport: [] },
  {
    files: 'src/commands/',
    mayImport: [
      'src/engine/rpc/',
      'src/state/layout.ts',
      'src/state/config.ts',
      'src/state/egress.ts',
      'src/state/file-sync.ts',
      'src/state/units.ts',
      'src/state/vm-states.ts',
      'src/host/doctor/',
      // What is done as root, and for a user, is no engine's work.
      'src/host/setup/',
      'src/host/assets.ts',
      'src/host/shell-quote.ts',
    ],
  },
  {
    // What is copied from and to a guest is a tar, which the client itself makes and takes apart.
    files: 'src/commands/copy/',
    mayImport: [
      'src/commands/',
      'src/engine/rpc/',
      'src/engine/copy/local-tar.ts',
      'src/engine/copy/cannot-use.ts',
      'src/engine/images/layers/',
      'src/engine/images/export/tar-writer.ts',
      'src/state/units.ts',
    ],
  },
  {
    files: 'src/engine/rpc/',
    mayImport: [
      'src/engine/operations.ts',
      'src/engine/progress.ts',
      'src/host/patience.ts',
      'src/host/process.ts',
      'src/state/vm-states.ts',
    ],
  },
  { files: 'src/engine/', mayImport: ['src/host/', 'src/state/'] },
  { files: 'src/host/', mayImport: [] },
  { files: 'src/state/', mayImport: [] },
];

/** What only some files may use, found in the syntax tree, so that comments and texts do not count. */
const reserved: readonly {
  readonly use: string;
  readonly allowed: readonly string[];
  readonly because: string;
}[] = [
  {
    use: 'node:child_process',
    allowed: ['src/host/'],
    because: 'programs are started through Exec or the functions of src/host, which tests can replace',
  },
  {
    use: 'process.env',
    // They add to the environment that programs inherit, or take from it; none decides by it.
    allowed: [
      'bin/',
      'src/engine/images/image-services.ts',
      'src/engine/workspace/host-tree/host-git.ts',
      'src/host/drivers/vmm-environment.ts',
      'src/host/exec.ts',
    ],
    because: 'tests must not depend on the environment: pass it in',
  },
  {
    use: 'process.argv',
    allowed: ['bin/'],
    because: 'in the single executable it holds other things than under node',
  },
  {
    use: 'process.exit()',
    allowed: ['bin/'],
    because: 'it cuts off output, undo and cleanup: throw instead',
  },
  { use: 'node:process', allowed: [], because: 'it would hide the three above: use the global' },
  {
    use: 'import.meta',
    allowed: ['src/host/assets.ts'],
    because: 'the bundle is one CommonJS file, which has none',
  },
];

const longestFile = 300;

/** Files that may be longer, and why. */
const longFiles: Readonly<Record<string, string>> = {};

const files = ['bin', 'src'].flatMap(typescriptFiles);
const uses = new Map(files.map((file) => [file, usesOf(file)]));

test.each(importRules)('$files imports only what it may', ({ files: owner, mayImport }) => {
  const allowed = [...forEverybody, owner, ...mayImport];
  const offences = files
    .filter((file) => ruleOf(file)?.files === owner)
    .flatMap((file) => ownImports(file).map((imported) => ({ file, imported })))
    .filter(({ imported }) => !allowed.some((place) => isIn(imported, place)))
    .map(({ file, imported }) => `${file} imports ${imported}; allowed are: ${allowed.join(', ')}`);
  expect(offences).toEqual([]);
});

test('every source file has an import rule', () => {
  expect(files.filter((file) => ruleOf(file) === undefined)).toEqual([]);
});

test.each(reserved)('$use is used only where it may be', ({ use, allowed, because }) => {
  const offences = files
    .filter((file) => !allowed.some((place) => isIn(file, place)) && uses.get(file)!.has(use))
    .map((file) => `${file} uses ${use}: ${because}`);
  expect(offences).toEqual([]);
});

test(`no source file is longer than ${longestFile} lines`, () => {
  const offences = files
    .map((file) => ({ file, lines: read(file).trimEnd().split('\n').length }))
    .filter(({ file, lines }) => lines > longestFile && longFiles[file] === undefined)
    .map(({ file, lines }) => `${file} has ${lines} lines: look for the second idea in it`);
  expect(offences).toEqual([]);
});

test('every file that may be longer still needs it', () => {
  const needless = Object.keys(longFiles).filter(
    (file) => !files.includes(file) || read(file).trimEnd().split('\n').length <= longestFile,
  );
  expect(needless).toEqual([]);
});

test('files are named in kebab-case after what they hold', () => {
  const kebab = /^[a-z0-9]+(-[a-z0-9]+)*$/;
  const offences = files.filter((file) => {
    const parts = file.replace(/\.ts$/, '').split('/');
    return (
      !parts.every((part) => kebab.test(part)) || /^(index|utils?|helpers?|misc|common)$/.test(parts.at(-1)!)
    );
  });
  expect(offences).toEqual([]);
});

test('tests are where what they test is', () => {
  const offences = typescriptFiles('test')
    .filter((file) => /^test\/(bin|commands|engine|host|state)\/.*\.test\.ts$/.test(file))
    .map((file) => file.replace(/^test/, 'src').replace(/[^/]*$/, ''))
    .filter((folder) => !files.some((file) => file.startsWith(folder)));
  expect(offences).toEqual([]);
});

test('the rules see imports of every form', () => {
  const source = [
    "import { a } from './a.ts';",
    "import type { B } from './b.ts';",
    "export { c } from './c.ts';",
    "const d = await import('./d.ts');",
    "let e: import('./e.ts').E;",
    "// import './f.ts'",
  ].join('\n');
  expect(importsIn(source).sort()).toEqual(['./a.ts', './b.ts', './c.ts', './d.ts', './e.ts']);
});

function ruleOf(file: string): (typeof importRules)[number] | undefined {
  return importRules
    .filter((rule) => isIn(file, rule.files))
    .sort((one, other) => other.files.length - one.files.length)[0];
}

function isIn(file: string, place: string): boolean {
  return place.endsWith('/') ? file.startsWith(place) : file === place;
}

/** Our own modules that a file imports, as paths from the top. */
function ownImports(file: string): string[] {
  return importsIn(read(file))
    .filter((name) => name.startsWith('.'))
    .map((name) => posix.normalize(posix.join(posix.dirname(file), name)));
}

function importsIn(source: string): string[] {
  return ts.preProcessFile(source, true, true).importedFiles.map((imported) => imported.fileName);
}

function usesOf(file: string): ReadonlySet<string> {
  const source = read(file);
  const found = new Set(
    importsIn(source).map((name) => name.replace(/^(child_process|process)$/, 'node:$1')),
  );
  const visit = (node: ts.Node): void => {
    if (ts.isPropertyAccessExpression(node) && node.expression.getText() === 'process') {
      // A program in a guest is a `process` with an `exit` as well, but that one is not called.
      const isCalled = ts.isCallExpression(node.parent) && node.parent.expression === node;
      found.add(`process.${node.name.text}${isCalled ? '()' : ''}`);
    }
    if (ts.isMetaProperty(node)) found.add(node.getText());
    ts.forEachChild(node, visit);
  };
  visit(ts.createSourceFile(basename(file), source, ts.ScriptTarget.Latest, true));
  return found;
}

function typescriptFiles(folder: string): string[] {
  return readdirSync(join(root, folder), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith('.ts'))
    .map((entry) => relative(root, join(entry.parentPath, entry.name)))
    .sort();
}

function read(file: string): string {
  return readFileSync(join(root, file), 'utf8');
}
