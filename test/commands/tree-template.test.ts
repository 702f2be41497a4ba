import { expect, test } from 'vitest';
import type { Cli } from '../../src/commands/cli.ts';
import { runProgram } from '../support/run-program.ts';

const sha256 = 'a'.repeat(64);
const template = {
  file: 'banger.toml',
  sha256,
  image: 'node:22',
  cpus: 2,
  memoryMib: 2048,
  ports: ['3000'],
  env: { MODE: 'dev', LD_PRELOAD: 'x.so\u001b' },
  setup: ['npm ci', 'one\n\u001b[2Jtwo'],
  asksFor: {
    image: 'evil/node\u001b',
    commands: ['npm ci', 'one\n\u001b[2Jtwo'],
    variables: ['LD_PRELOAD=x.so\u001b'],
    place: '/root/.config\u001b',
    ports: ['0.0.0.0:80:80'],
  },
  isAgreed: false,
  warnings: ['"mounts" is not honoured'],
};

/** Runs a command against an engine whose trees say this, at a terminal where somebody answers. */
async function run(words: readonly string[], says: object | undefined, answer?: boolean, tools?: object) {
  const calls: { method: string; params: Record<string, unknown> }[] = [];
  const talk: string[] = [];
  const questions: string[] = [];
  const call = async (method: { name: string }, params: Record<string, unknown>) => {
    calls.push({ method: method.name, params });
    if (method.name === 'template.read') return { hostPath: '/home/me/tree', template: says, tools };
    const prepared = {
      files: 1,
      bytes: 1,
      untracked: 0,
      created: true,
      guestPath: '/root/tree',
      warnings: [],
    };
    return { code: 0, vm: 'web', removed: true, stages: [], ...prepared };
  };
  const cli = {
    json: false,
    cwd: '/home/me/tree',
    call,
    attach: call,
    programTerminal: () => undefined,
    print: () => undefined,
    say: (line: string) => void talk.push(line),
    canAsk: answer !== undefined,
    ask: async (question: string) => {
      questions.push(question);
      return answer;
    },
    exitWith: () => undefined,
  } as unknown as Cli;
  const error = await runProgram(cli, words).then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  return {
    calls,
    talk,
    questions,
    error,
    used: calls.find(({ method }) => method !== 'template.read')?.params,
  };
}

test('what takes consent is shown in full and made harmless, asked about, and agreed to', async () => {
  const { talk, questions, used } = await run(['vm', 'run', '.', '--', 'make'], template, true);
  expect(talk.slice(0, 15)).toEqual([
    'Warning: "mounts" is not honoured',
    '"banger.toml" of "/home/me/tree" wants:',
    '  an image that is not known here, and what is in it runs in the VM as root:',
    '    evil/node\\x1b',
    '  to run in the VM, as root:',
    '    $ npm ci',
    '    $ one',
    '      \\x1b[2Jtwo',
    '  variables in the VM by which programs may run code, or ask other servers:',
    '    LD_PRELOAD=x.so\\x1b',
    '  to be in the VM where programs may look for settings, or for other programs:',
    '    /root/.config\\x1b',
    '  ports of this host that others can reach:',
    '    0.0.0.0:80:80',
    'Using banger.toml: image node:22, 2 CPUs, 2 GiB of memory, port 3000, variables MODE=dev, LD_PRELOAD=x.so\\x1b, 2 setup commands',
  ]);
  expect(questions).toHaveLength(1);
  expect(used).toMatchObject({ template: { sha256, trust: true }, path: '/home/me/tree' });
});

test('no means that nothing is made', async () => {
  const { error, used } = await run(['vm', 'run', '.'], template, false);
  expect(error).toMatchObject({
    code: 'invalid_argument',
    message: '"banger.toml" was not agreed to, and no VM was made',
  });
  expect(used).toBeUndefined();
});

test('without a terminal it is an error that says what to type', async () => {
  const { error, used } = await run(['workspace', 'prepare'], template);
  expect(error).toMatchObject({
    code: 'invalid_argument',
    message: expect.stringContaining(
      'asks for an image that is not known here, 2 setup commands, 1 variable by which programs may run code, a place where programs look for files and 1 port open to others',
    ) as string,
    hint: 'Read it: cat -v /home/me/tree/banger.toml; then agree with --trust, or go without it: --no-template',
  });
  expect(used).toBeUndefined();
});

test.each([['--trust'], ['--yes'], ['-y']])('%s asks nothing', async (flag) => {
  const { questions, used } = await run(['vm', 'run', flag, '.'], template);
  expect(questions).toEqual([]);
  expect(used).toMatchObject({ template: { sha256, trust: true } });
});

test('what was agreed to, or takes no consent, is used without asking', async () => {
  const { questions, used } = await run(['vm', 'run', '.'], { ...template, isAgreed: true });
  expect(questions).toEqual([]);
  expect(used).toMatchObject({ template: { sha256, trust: false } });
});

test('--no-template and --no-bootstrap do not look, and without a tree there is nothing to look at', async () => {
  for (const words of [
    ['vm', 'run', '--no-template', '--no-bootstrap', '.'],
    ['vm', 'run'],
    ['workspace', 'prepare', '--vm', 'web'],
  ]) {
    const { calls, used } = await run(words, template);
    expect(calls).toHaveLength(1);
    expect(used?.['template']).toBeUndefined();
  }
});

test('--image says that the file need not have one; prepare asks only when a VM will be made', async () => {
  const asked = async (...words: string[]) => (await run(words, undefined)).calls[0]?.params;
  expect(await asked('vm', 'run', '--image', 'x', '.')).toMatchObject({ hasImage: true, unlessBound: false });
  expect(await asked('workspace', 'prepare')).toMatchObject({ hasImage: false, unlessBound: true });
});

test('--template chooses a file of the tree; with --no-template none is read, right or wrong', async () => {
  const file = '.devcontainer/api/devcontainer.json';
  const { calls, used } = await run(['vm', 'run', '--trust', '--template', `./${file}`, '.'], template);
  expect(calls[0]?.params).toMatchObject({ file, toolsOnly: false });
  expect(used).toMatchObject({ template: { sha256, file, trust: true } });
  // Whoever has a VM of the tree already, or means no tree, is told.
  const bound = await run(['workspace', 'prepare', '--template', file], undefined);
  expect(bound.talk[0]).toBe(`"${file}" is not used: the tree has a VM already, which stays as it is`);
  for (const words of [
    ['vm', 'run', '--template', file],
    ['workspace', 'prepare', '--vm', 'web', '--template', file],
  ])
    expect((await run(words, template)).error).toMatchObject({
      hint: expect.stringContaining(file) as string,
    });
  const without = await run(['workspace', 'prepare', '--no-template'], undefined);
  expect(without.calls[0]?.params).toMatchObject({ toolsOnly: true });
});

test('what mise would do besides installing tools is shown in full, and agreed to', async () => {
  const tools = { sha256, files: [{ name: 'mise.toml', text: '[hooks]\nenter = "\u001b[2J"\n' }] };
  const { talk, questions, used } = await run(['vm', 'run', '--no-template', '.'], undefined, true, tools);
  expect(talk.slice(0, 3)).toEqual([
    '"mise.toml" of "/home/me/tree" has mise do more in the VM than install tools:',
    '  [hooks]',
    '  enter = "\\x1b[2J"',
  ]);
  expect(questions).toHaveLength(1);
  expect(used).toMatchObject({ trustTools: sha256 });
  expect((await run(['vm', 'run', '.'], undefined, false, tools)).error).toMatchObject({
    message: '"mise.toml" was not agreed to, and nothing was done',
  });
  expect((await run(['workspace', 'prepare'], undefined, undefined, tools)).error).toMatchObject({
    message: expect.stringContaining('nobody has agreed to that') as string,
  });
  expect((await run(['vm', 'run', '--trust', '.'], undefined, false, tools)).used).toMatchObject({
    trustTools: sha256,
  });
  const without = await run(['vm', 'run', '--no-bootstrap', '.'], undefined, false, tools);
  expect(without.used).toMatchObject({ bootstrap: false });
});

test('tools for a VM that is there already are asked about where somebody can answer, and left to the engine else', async () => {
  const tools = { sha256, files: [{ name: 'mise.toml', text: '[hooks]\nenter = "x"\n' }] };
  const words = ['workspace', 'prepare', '--vm', 'web'];
  const { questions, calls, used } = await run(words, template, true, tools);
  expect(questions).toHaveLength(1);
  expect(calls[0]?.params).toMatchObject({ toolsOnly: true });
  expect(used).toMatchObject({ vm: 'web', trustTools: sha256 });
  expect(used?.['template']).toBeUndefined();
  expect((await run(words, template, false, tools)).error).toMatchObject({
    message: '"mise.toml" was not agreed to, and nothing was done',
  });
  expect((await run(words, template, undefined, tools)).questions).toEqual([]);
});
