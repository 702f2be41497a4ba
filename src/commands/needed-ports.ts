import { BangerError } from '../errors.ts';
import type { NeededPort } from '../host/doctor/ports.ts';
import { engineStatus } from '../engine/rpc/engine-methods.ts';
import { loopback } from '../engine/rpc/port-text.ts';
import { vmList } from '../engine/rpc/vm-methods.ts';
import { loadConfig, parseConfig, type Config } from '../state/config.ts';
import type { Cli } from './cli.ts';

export interface NeededPortsInput {
  readonly configFile: string;
  /** Where names are answered for when the configuration does not say */
  readonly autoPort: number;
}

/** Ports that VMs and names will want, as the engine knows; undefined when none runs. */
export async function findNeededPorts(
  cli: Pick<Cli, 'callIfRunning'>,
  { configFile, autoPort }: NeededPortsInput,
): Promise<readonly NeededPort[] | undefined> {
  const [status, vms] = await askEngine(cli);
  if (!status || !vms) return undefined;
  const published = vms
    .filter(({ state }) => state === 'stopped')
    .flatMap(({ name, ports }) =>
      ports.filter(isPromised).map(({ protocol, bind, hostPort, guestPort }): NeededPort => {
        const place = bind === loopback ? '' : `${bind}::`;
        const suffix = protocol === 'udp' ? '/udp' : '';
        return {
          protocol,
          bind,
          port: hostPort,
          purpose: `VM "${name}"`,
          wayOut: `Publish on another: banger vm set ${name} --unpublish ${hostPort}${suffix} -p ${place}${guestPort}${suffix}`,
        };
      }),
    );
  const { place: configured, isAlways } = dnsListen(configFile);
  const place = configured && !isAlways ? { ...configured, port: autoPort } : configured;
  // One that it has is not free because it is ours.
  if (!place || status.names !== undefined || place.port === 0 || place.address.includes(':'))
    return published;
  const names: NeededPort = {
    protocol: 'udp',
    bind: place.address,
    port: place.port,
    purpose: 'names of VMs',
    wayOut: `Have another used, in the configuration under [dns]: listen = "${place.address}:${place.port + 1}"`,
  };
  return [...published, names];
}

/** One that was left to us is replaced by another when it is taken. */
function isPromised({
  chosen,
  followed,
}: {
  readonly chosen?: boolean;
  readonly followed?: boolean;
}): boolean {
  return !chosen && !followed;
}

/** One that cannot be asked, such as another build's, has a check of its own. */
async function askEngine(cli: Pick<Cli, 'callIfRunning'>) {
  try {
    return [
      await cli.callIfRunning(engineStatus, {}),
      await cli.callIfRunning(vmList, { labels: [] }),
    ] as const;
  } catch (error) {
    if (error instanceof BangerError) return [];
    throw error;
  }
}

/** A wrong configuration has a check of its own. */
function dnsListen(configFile: string): Config['dnsListen'] {
  try {
    return loadConfig(configFile).dnsListen;
  } catch {
    return parseConfig('', configFile).dnsListen;
  }
}
