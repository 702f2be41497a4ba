/**
 * A Firecracker without a guest, as a process of its own: it speaks the API on its socket, takes what the
 * specification allows and refuses the rest, keeps Firecracker's rules of order, and misbehaves when it is told to.
 *
 * Started as Firecracker is, with `FAKE_DIRECTORY` in its environment; firecracker-program.ts has the files there.
 */
import { appendFileSync, closeSync, existsSync, openSync, readFileSync, statSync, writeSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { join } from 'node:path';
import { validatorOf, type Validate } from './firecracker-schemas.ts';
import type { FakeScript, Misdeed } from './firecracker-program.ts';
import { limitedServer } from './limited-server.ts';
import { StandInGuest } from './parity/guest.ts';

type Body = Readonly<Record<string, unknown>>;
type State = 'Not started' | 'Running' | 'Paused';

const directory = process.env['FAKE_DIRECTORY']!;
const showsLevel = process.argv.includes('--show-level');
const args = process.argv.slice(2).filter((word) => word !== '--show-level');
const option = (name: string): string | undefined => {
  const at = args.indexOf(name);
  return at < 0 ? undefined : args[at + 1];
};

// The times are what a jailer adds.
const times = ['--start-time-us', '--start-time-cpu-us', '--parent-cpu-time-us'];
const known = ['--id', '--api-sock', '--log-path', '--level', ...times];
const id = option('--id') ?? 'anonymous-instance';
const socket = option('--api-sock') ?? '/run/firecracker.socket';
const logPath = option('--log-path');
/** Opened as Firecracker does: not for appending, so that what it writes goes where it was, whoever writes there, too. */
let logFile: number | undefined;
let logPosition = 0;
const specification = join(directory, 'specification.json');
const validate: Validate = existsSync(specification)
  ? validatorOf(JSON.parse(readFileSync(specification, 'utf8')) as Body)
  : () => undefined;

let state: State = 'Not started';
let hasKernel = false;
let hasBootSource = false;
let memoryMib = 0;
let bootWords = '';
/** Only where the kernel's words ask for the guest of the list of drivers */
let guest: StandInGuest | undefined;
let hasMetrics = false;
/** Ctrl-Alt-Del, which a guest that stands still has not seen yet */
let hasKeys = false;
const drives = new Map<string, Body>();

main();

function main(): void {
  if (args.includes('--version')) return void writeSync(1, `Firecracker v${script().version}\n`);
  const unknown = args.find((word, index) => index % 2 === 0 && !known.includes(word));
  if (unknown !== undefined)
    return end(152, `Arguments parsing error: Found argument '${unknown}' which wasn't expected`);
  if (!/^[A-Za-z0-9-]{1,64}$/.test(id)) return end(152, 'Invalid instance ID: Invalid char');
  // Firecracker's own log has to be there before.
  if (logPath !== undefined && !existsSync(logPath))
    return end(1, 'Logger error: No such file or directory (os error 2)');
  if (logPath !== undefined) logFile = openSync(logPath, 'r+');
  if (existsSync(socket))
    return end(
      1,
      `RunWithApiError error: Failed to open the API socket at: ${socket}. Check that it is not already used.`,
    );
  log(`Running Firecracker v${script().version}`);
  process.on('SIGUSR2', () => guestEnds('reset'));
  limitedServer((request, response) => void answer(request, response))
    .on('error', (error) =>
      end(1, `RunWithApiError error: Failed to open the API socket at: ${socket}: ${error.message}`),
    )
    .listen(socket, () => log('Listening on API socket.'));
}

async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
  let text = '';
  for await (const chunk of request) text += String(chunk);
  const method = request.method ?? '';
  const path = request.url ?? '';
  appendFileSync(join(directory, 'requests.jsonl'), `${JSON.stringify({ method, path, body: text })}\n`);
  const misdeed = script().misdeeds.find((one) => one.method === method && one.path === path);
  log(`The API server received a ${method} request on "${path}".`);
  if (misdeed) return misbehave(misdeed, response);
  const refused =
    check(method, path, text) ?? act(method, path, text === '' ? {} : (JSON.parse(text) as Body));
  if (refused !== undefined) return reply(response, 400, { fault_message: refused });
  const told = tell(method, path);
  return told ? reply(response, 200, told) : reply(response, 204);
}

function misbehave(misdeed: Misdeed, response: ServerResponse): void {
  switch (misdeed.does) {
    case 'fails':
      return reply(response, misdeed.status ?? 400, { fault_message: misdeed.words ?? 'told to fail' });
    case 'stalls':
      return;
    case 'dies':
      return end(139, misdeed.words ?? 'panicked');
    case 'is killed':
      return void process.kill(process.pid, 'SIGKILL');
    case 'lies':
      return misdeed.words === undefined ? reply(response, 204) : void response.end(misdeed.words);
  }
}

/** Why a request is none that the specification has; undefined for one that is. */
function check(method: string, path: string, text: string): string | undefined {
  let body: unknown;
  if (method === 'GET' && text !== '') return 'GET request cannot have a body.';
  if (method !== 'GET') {
    try {
      body = JSON.parse(text);
    } catch (error) {
      return `An error occurred when deserializing the json body of a request: ${String(error)}.`;
    }
  }
  return validate({ method, path, body }, script().version);
}

const notBefore = 'The requested operation is not supported before starting the microVM.';
const notAfter = 'The requested operation is not supported after starting the microVM.';

/** Does what is asked, or returns why not: what Firecracker takes before its guest runs, it does not take after. */
function act(method: string, path: string, body: Body): string | undefined {
  const [, resource = '', name = ''] = path.split('/');
  if (method === 'GET') return undefined;
  if (method === 'PATCH') return state === 'Not started' ? notBefore : change(resource, name, body);
  if (resource === 'actions') return actOn(String(body['action_type']));
  if (state !== 'Not started') return notAfter;
  const idOf: Readonly<Record<string, string>> = { drives: 'drive_id', 'network-interfaces': 'iface_id' };
  const idField = idOf[resource];
  if (idField !== undefined && body[idField] !== name)
    return 'The id from the path does not match the id from the body!';
  if (name !== '' && !/^\w+$/.test(name))
    return 'API Resource IDs can only contain alphanumeric characters and underscores.';
  return configure(resource, name, body);
}

function configure(resource: string, name: string, body: Body): string | undefined {
  switch (resource) {
    case 'boot-source':
      for (const key of ['kernel_image_path', 'initrd_path']) {
        const trouble = typeof body[key] === 'string' ? openTrouble(body[key], 'r') : undefined;
        if (trouble !== undefined)
          return `Boot source error: The ${key === 'initrd_path' ? 'initrd' : 'kernel'} file cannot be opened: ${trouble}`;
      }
      hasKernel = true;
      bootWords = String(body['boot_args']);
      hasBootSource = bootWords.includes('console=');
      return undefined;
    case 'drives': {
      const file = String(body['path_on_host']);
      const trouble = openTrouble(file, 'r+');
      if (trouble !== undefined)
        return `Drive config error: Unable to create the virtio block device: Virtio backend error: Error manipulating the backing file: ${trouble} ${file}`;
      if (
        body['is_root_device'] === true &&
        [...drives.values()].some((one) => one['is_root_device'] === true)
      )
        return 'Drive config error: A root block device already exists!';
      drives.set(name, body);
      return undefined;
    }
    case 'network-interfaces': {
      const mac = body['guest_mac'];
      return mac === undefined || /^[0-9a-f]{2}(?::[0-9a-f]{2}){5}$/i.test(String(mac))
        ? undefined
        : `An error occurred when deserializing the json body of a request: invalid MAC address "${String(mac)}".`;
    }
    case 'machine-config':
      memoryMib = Number(body['mem_size_mib']);
      return undefined;
    case 'metrics':
      if (hasMetrics)
        return 'Metrics error: Cannot initialize the metrics system due to bad user input: Reinitialization of metrics not allowed.';
      {
        // The newest releases make the file by themselves; ours may be older.
        const trouble = openTrouble(String(body['metrics_path']), 'r+');
        if (trouble !== undefined)
          return `Metrics error: Cannot initialize the metrics system due to bad user input: ${trouble}`;
      }
      hasMetrics = true;
      return undefined;
    default:
      return undefined;
  }
}

/** Why a file cannot be opened, in Rust's words. */
function openTrouble(path: string, flags: 'r' | 'r+'): string | undefined {
  try {
    closeSync(openSync(path, flags));
    return undefined;
  } catch (error) {
    const { code, errno } = error as NodeJS.ErrnoException;
    const words: Readonly<Record<string, string>> = {
      ENOENT: 'No such file or directory',
      EACCES: 'Permission denied',
    };
    return `${words[code ?? ''] ?? code} (os error ${-errno!})`;
  }
}

function change(resource: string, name: string, body: Body): string | undefined {
  if (resource === 'vm') {
    state = body['state'] === 'Paused' ? 'Paused' : 'Running';
    if (guest) guest.stands = state === 'Paused';
    takeKeys();
    return undefined;
  }
  if (resource === 'drives') {
    if (!drives.has(name))
      return `Drive config error: Unable to patch the block device: Device ${name} not found`;
    const path = String(body['path_on_host']);
    const trouble = openTrouble(path, 'r+');
    if (trouble !== undefined) return `Drive config error: Unable to patch the block device: ${trouble}`;
    appendFileSync(join(directory, 'sizes'), `${statSync(path).size}\n`);
    guest?.diskHasChanged();
    return undefined;
  }
  return resource === 'machine-config' ? notAfter : undefined;
}

function actOn(action: string): string | undefined {
  if (action !== 'InstanceStart') {
    if (state === 'Not started') return notBefore;
    if (action === 'SendCtrlAltDel') hasKeys = true;
    takeKeys();
    return undefined;
  }
  if (state !== 'Not started') return notAfter;
  if (!hasKernel) return 'Start microvm error: Cannot start microvm without kernel configuration.';
  const refusal = script().refusesStart;
  if (refusal !== undefined) return refusal;
  // No process has so many addresses.
  if (memoryMib >= 2 ** 27)
    return 'Start microvm error: Cannot create mmap region: Cannot allocate memory (os error 12)';
  state = 'Running';
  const { console } = script();
  if (console !== undefined && hasBootSource) writeSync(1, console);
  if (hasBootSource && bootWords.includes('rdinit=/parity')) {
    guest = new StandInGuest(bootWords, String(drives.get('root')?.['path_on_host']), {
      print: (text) => void writeSync(1, text),
      reset: () => guestEnds('reset'),
    });
  }
  return undefined;
}

function takeKeys(): void {
  if (hasKeys && state === 'Running') setTimeout(() => guestEnds('reset'), 10);
}

function tell(method: string, path: string): Body | undefined {
  if (method !== 'GET') return undefined;
  const { version } = script();
  if (path === '/version') return { firecracker_version: version };
  if (path === '/machine-config') return { vcpu_count: 1, mem_size_mib: 128 };
  return { app_name: 'Firecracker', id, state, vmm_version: version };
}

/** A guest that resets, which is also how one ends that has panicked. */
function guestEnds(_how: 'reset'): void {
  log('Vmm is stopping.');
  end(0, 'Firecracker exiting successfully. exit_code=0');
}

function reply(response: ServerResponse, status: number, body?: Body): void {
  const text = body && JSON.stringify(body);
  response.writeHead(status, { server: 'Firecracker API', 'content-type': 'application/json' });
  response.end(text);
}

/** What to do is read each time: a test changes it while we run. */
function script(): FakeScript {
  return JSON.parse(readFileSync(join(directory, 'script.json'), 'utf8')) as FakeScript;
}

function log(words: string, level: 'INFO' | 'ERROR' = 'INFO'): void {
  const origin = `${id}:main${showsLevel ? `:${level}` : ''}`;
  const line = `2026-01-01T00:00:00.000000000 [${origin}] ${words}\n`;
  if (logFile === undefined) writeSync(1, line);
  else logPosition += writeSync(logFile, line, logPosition);
}

/** As upstream: why, once more for whoever started it, and then the code. */
function end(code: number, words: string): void {
  const level = code === 0 ? 'INFO' : 'ERROR';
  log(words, level);
  if (code !== 0) {
    writeSync(2, `Error: ${words}\n`);
    log(`Firecracker exiting with error. exit_code=${code}`, level);
  }
  process.exit(code);
}
