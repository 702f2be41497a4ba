import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { until } from '../../support/banger.ts';
import { makeFakeFirecracker, noSpecification } from '../../support/firecracker-program.ts';

/** The stand-in refuses what Firecracker does, as Firecracker does: our driver is only as good as what it is held to. */
type Asked = readonly [method: 'PUT' | 'PATCH', path: string, body: Readonly<Record<string, unknown>>];

const kernel: Asked = ['PUT', '/boot-source', { kernel_image_path: 'kernel' }];
const start: Asked = ['PUT', '/actions', { action_type: 'InstanceStart' }];
const notBefore = 'The requested operation is not supported before starting the microVM.';
const notAfter = 'The requested operation is not supported after starting the microVM.';

function drive(path: string, id: string, isRoot: boolean): Asked {
  const body = { drive_id: id, path_on_host: 'disk', is_root_device: isRoot, is_read_only: false };
  return ['PUT', `/drives/${path}`, body];
}

test.each<{ what: string; before: readonly Asked[]; asked: Asked; words: string }>([
  {
    what: 'a pause before the guest runs',
    before: [kernel],
    asked: ['PATCH', '/vm', { state: 'Paused' }],
    words: notBefore,
  },
  {
    what: 'a disk looked at again before the guest runs',
    before: [drive('root', 'root', false)],
    asked: ['PATCH', '/drives/root', { drive_id: 'root', path_on_host: 'disk' }],
    words: notBefore,
  },
  {
    what: 'Ctrl-Alt-Del before the guest runs',
    before: [kernel],
    asked: ['PUT', '/actions', { action_type: 'SendCtrlAltDel' }],
    words: notBefore,
  },
  { what: 'a second start', before: [kernel, start], asked: start, words: notAfter },
  {
    what: 'a disk after the start',
    before: [kernel, start],
    asked: drive('root', 'root', false),
    words: notAfter,
  },
  {
    what: 'a disk under another name than its own',
    before: [],
    asked: drive('root', 'other', false),
    words: 'The id from the path does not match the id from the body!',
  },
  {
    what: 'a card under another name than its own',
    before: [],
    asked: ['PUT', '/network-interfaces/net', { iface_id: 'other', host_dev_name: 'vm' }],
    words: 'The id from the path does not match the id from the body!',
  },
  {
    what: 'a second root device',
    before: [drive('root', 'root', true)],
    asked: drive('other', 'other', true),
    words: 'Drive config error: A root block device already exists!',
  },
  {
    what: 'a start without a kernel',
    before: [drive('root', 'root', false)],
    asked: start,
    words: 'Start microvm error: Cannot start microvm without kernel configuration.',
  },
])('the fake refuses $what, by status 400 and in words', async ({ before, asked, words }) => {
  const send = await runFake();
  for (const one of before) expect(await send(one)).toEqual({ status: 204, text: '' });
  const { status, text } = await send(asked);
  expect(status).toBe(400);
  expect(JSON.parse(text)).toEqual({ fault_message: words });
});

const metrics = { metrics_path: 'disk' };
const card = { iface_id: 'net', host_dev_name: 'vm' };
const balloon = { amount_mib: 0, deflate_on_oom: true };

// Only by a specification it is known what a request may have.
test.runIf(noSpecification === undefined).each<{ before: string; release: string; asked: Asked }>([
  {
    before: '1.12.1',
    release: '1.13.0',
    asked: ['PUT', '/mmds/config', { network_interfaces: [], imds_compat: true }],
  },
  {
    before: '1.13.0',
    release: '1.14.0',
    asked: ['PUT', '/balloon', { ...balloon, free_page_hinting: true }],
  },
  { before: '1.13.0', release: '1.14.0', asked: ['PUT', '/serial', { serial_out_path: 'kernel' }] },
  { before: '1.15.0', release: '1.16.0', asked: ['PUT', '/network-interfaces/net', { ...card, mtu: 1400 }] },
  { before: '1.16.1', release: '1.17.0', asked: ['PUT', '/metrics', { ...metrics, emit_id: true }] },
  {
    before: '1.16.1',
    release: '1.17.0',
    asked: ['PUT', '/machine-config', { vcpu_count: 1, mem_size_mib: 128, huge_pages: 'Transparent' }],
  },
])('the fake takes $asked.1 as release $release does, and not as $before', async (releases) => {
  const { before, release, asked } = releases;
  expect(await (await runFake(before))(asked)).toMatchObject({ status: 400 });
  expect(await (await runFake(release))(asked)).toEqual({ status: 204, text: '' });
});

test('the fake takes what all releases do, and no metrics where no file for them is', async () => {
  const old = await runFake('1.7.0');
  expect(await old(['PUT', '/balloon', balloon])).toMatchObject({ status: 204 });
  expect(await old(['PUT', '/network-interfaces/net', card])).toMatchObject({ status: 204 });
  expect(
    await old(['PUT', '/machine-config', { vcpu_count: 1, mem_size_mib: 128, huge_pages: '2M' }]),
  ).toEqual({
    status: 204,
    text: '',
  });
  expect(await old(['PUT', '/metrics', { metrics_path: 'missing' }])).toMatchObject({ status: 400 });
  expect(await old(['PUT', '/metrics', metrics])).toMatchObject({ status: 204 });
});

async function runFake(
  version?: string,
): Promise<(asked: Asked) => Promise<{ status?: number; text: string }>> {
  const root = mkdtempSync(join(tmpdir(), 'banger-fc-'));
  onTestFinished(() => rmSync(root, { recursive: true, force: true }));
  const { program, behave } = await makeFakeFirecracker(root);
  if (version !== undefined) behave({ version });
  for (const name of ['kernel', 'disk']) writeFileSync(join(root, name), 'x');
  const socketPath = join(root, 'api.socket');
  const child = spawn(program, ['--id', 'order', '--api-sock', socketPath], { cwd: root, stdio: 'ignore' });
  onTestFinished(async () => {
    const ended = once(child, 'exit');
    if (child.kill('SIGKILL')) await ended;
  });
  await until('it listens', () => existsSync(socketPath));
  return async ([method, path, body]) => {
    const asking = request({ socketPath, method, path, agent: false });
    asking.end(JSON.stringify(body));
    const [response] = (await once(asking, 'response')) as [AsyncIterable<Buffer> & { statusCode?: number }];
    let text = '';
    for await (const chunk of response) text += String(chunk);
    return { status: response.statusCode, text };
  };
}
