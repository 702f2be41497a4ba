import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { BangerError } from '../../src/errors.ts';
import type { Exec, ExecOutput } from '../../src/host/exec.ts';
import { setupHost, type HostInput, type SetupReport } from '../../src/host/setup/setup-host.ts';
import { openNetworkLab, type NetworkLab } from './network-lab.ts';

export const setupUser = 'nobody';
export const setupUid = 65_534;

export interface SetupExtra {
  readonly taps?: number;
  readonly shared?: string[];
  readonly dryRun?: boolean;
}

/** A host to set up: its network is a namespace, its files are in a directory, and systemd does not run it. */
export interface SetupLab extends Disposable {
  readonly lab: NetworkLab;
  readonly root: string;
  /** Where setups are written */
  readonly etc: string;
  /** Commands for systemd, in order */
  readonly asked: readonly string[];
  /** What systemd-resolved was told, by link */
  readonly resolved: Map<string, Record<string, string>>;
  readonly exec: Exec;
  /** All that a setup may change */
  state(): string;
  /** Has one answer for names */
  answeredBy(resolver: string): void;
  input(): HostInput & Required<Pick<HostInput, 'exec' | 'places'>>;
  setup(extra?: SetupExtra): Promise<SetupReport>;
}

export function openSetupLab(): SetupLab {
  const lab = openNetworkLab();
  const root = mkdtempSync(join(tmpdir(), 'banger-setup-'));
  const forwarding = { file: join(root, 'ip_forward'), markers: join(root, 'markers') };
  writeFileSync(forwarding.file, '0\n');
  const etc = join(root, 'etc');
  const asked: string[] = [];
  const resolved: SetupLab['resolved'] = new Map();

  /** As systemd-resolved keeps them: by link, and only of links that are there. */
  const resolvectl = async ([verb, link, ...words]: readonly string[]): Promise<ExecOutput> => {
    const isThere = (await lab.exec(['ip', 'link', 'show', link!], { okExitCodes: [1] })).exitCode === 0;
    if (!isThere) throw new BangerError('command_failed', `Failed to resolve interface "${link}"`);
    const settings = resolved.get(link!) ?? {};
    if (words.length > 0) resolved.set(link!, { ...settings, [verb!]: words.join(' ') });
    const stdout = Buffer.from(`Link 7 (${link}): ${settings[verb!] ?? ''}\n`);
    return { exitCode: 0, stdout, stderr: '' };
  };
  const exec: Exec = async (argv, options) => {
    if (argv[0] === 'resolvectl') return resolvectl(argv.slice(1));
    if (argv[0] !== 'systemctl') return lab.exec(argv, options);
    if (argv[1] !== 'is-active') asked.push(argv.slice(1).join(' '));
    return { exitCode: 0, stdout: Buffer.alloc(0), stderr: '' };
  };
  const input: SetupLab['input'] = () => ({
    markers: forwarding.markers,
    env: {},
    exec,
    places: {
      configDirectory: etc,
      unitDirectory: join(root, 'units'),
      forwarding,
      hasSystemd: true,
      systemRoot: join(root, 'system'),
    },
  });
  return {
    lab,
    root,
    etc,
    asked,
    resolved,
    exec,
    input,
    state: () =>
      [
        lab.snapshot(),
        readFileSync(forwarding.file, 'utf8'),
        ...readdirSync(root, { recursive: true, encoding: 'utf8' })
          .filter((name) => !/^(?:markers|units)$/.test(name))
          .sort(),
      ].join('\n'),
    answeredBy(resolver) {
      mkdirSync(join(root, 'system/etc/dnsmasq.d'), { recursive: true });
      const address = resolver === 'systemd-resolved' ? '127.0.0.53' : '127.0.0.1';
      writeFileSync(join(root, 'system/etc/resolv.conf'), `nameserver ${address}\n`);
    },
    setup: (extra = {}) =>
      setupHost({ user: setupUser, taps: 2, shared: [], dryRun: false, ...extra }, input()),
    [Symbol.dispose]() {
      lab[Symbol.dispose]();
      rmSync(root, { recursive: true });
    },
  };
}
