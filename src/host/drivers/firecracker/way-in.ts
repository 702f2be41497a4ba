import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { abortError, BangerError } from '../../../errors.ts';
import type { Exec } from '../../exec.ts';
import { Deadline } from '../../patience.ts';
import { identifyProcess, isAlive, killProcess, spawnDetached, type ProcessIdentity } from '../../process.ts';
import { userCard, type TapNetwork, type UserNetwork } from '../driver.ts';
import { vmmEnvironment } from '../vmm-environment.ts';
import { jailedNamespaceWords, namespaceWords } from './namespace.ts';
import { devices, insideWords, withNetwork, type Joined } from './rootless-network.ts';

/** Stays in the namespace for as long as the VMM lives: it reads from a descriptor whose other end the VMM has. */
const keeper = 'cat';
const startTimeoutMs = 10_000;
const startPollMs = 5;

/**
 * Makes ports of the host lead to a guest on a tap of the host's, beside that tap, without root: a namespace of its own
 * has the address that slirp4netns forwards to, and sends what comes there on to the guest's, by the way of the host
 * itself. So ports are those of any user network: they outlive us, and are added and removed while the guest runs.
 *
 * What is started for that ends when the VMM does. Throws `busy` when a port was taken meanwhile.
 */
export async function openWayIn(
  exec: Exec,
  vmm: Omit<Joined, 'process'>,
  network: { readonly tap: TapNetwork; readonly user: UserNetwork },
  signal: AbortSignal,
): Promise<void> {
  const words = vmm.isRoots ? jailedNamespaceWords() : namespaceWords();
  const child = await spawnDetached([...words, keeper], {
    logFile: vmm.logFile,
    env: vmmEnvironment(),
    input: vmm.pulse,
  });
  child.unref();
  const identity = identifyProcess(child.pid!);
  try {
    const inNamespace = await waitForKeeper(identity, signal);
    const joined = { ...vmm, process: inNamespace };
    await withNetwork(joined, { network: network.user, signal }, async () => {
      const inside = insideWords(joined);
      await exec([...inside, 'ip', '-batch', '-'], { input: deviceCommands, signal });
      await exec([...inside, 'tee', '/proc/sys/net/ipv4/ip_forward'], { input: '1\n', signal });
      await exec([...inside, 'nft', '-f', '-'], { input: rules(network.tap.address), signal });
    });
  } catch (error) {
    if (identity) await killProcess(identity);
    throw error;
  }
}

/** The words before it make the namespace, and turn into it. */
async function waitForKeeper(
  identity: ProcessIdentity | undefined,
  signal: AbortSignal,
): Promise<ProcessIdentity> {
  const deadline = new Deadline(startTimeoutMs);
  for (;;) {
    if (signal.aborted) throw abortError(signal);
    if (!identity || !isAlive(identity)) {
      throw new BangerError(
        'host_unsupported',
        'The way into the VM needs a namespace, and this host lets us have none',
        {
          hint: 'See what is missing with: banger doctor',
        },
      );
    }
    if (programOf(identity.pid) === keeper) return identity;
    if (deadline.isOver())
      throw new BangerError('timeout', 'The namespace for the way into the VM was not there in time');
    await sleep(startPollMs);
  }
}

function programOf(pid: number): string | undefined {
  try {
    return readFileSync(`/proc/${pid}/comm`, 'utf8').trim();
  } catch {
    return undefined;
  }
}

const deviceCommands = [
  'link set dev lo up',
  `address add ${userCard.address} dev ${devices.uplink}`,
  `link set dev ${devices.uplink} up`,
  `route add default via ${userCard.gateway} dev ${devices.uplink}`,
  '',
].join('\n');

/** Whatever comes for the address here is for the guest's, and answers come back the same way. */
const rules = (guest: string): string => `table ip way_in {
  chain prerouting {
    type nat hook prerouting priority dstnat; policy accept;
    iifname "${devices.uplink}" ip daddr ${userCard.address.split('/')[0]} dnat to ${guest}
  }

  chain forward {
    type filter hook forward priority filter; policy drop;
    ip daddr ${guest} accept
    ct state established,related accept
  }

  chain postrouting {
    type nat hook postrouting priority srcnat; policy accept;
    oifname "${devices.uplink}" masquerade
  }
}
`;
