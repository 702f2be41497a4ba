import { appendFile, chmod, copyFile, mkdir, readFile, rm } from 'node:fs/promises';
import { abortError, BangerError, errorText } from '../../errors.ts';
import { waitForReady, type GuestReady } from '../../host/console.ts';
import { cpioArchive } from '../../host/cpio.ts';
import type { VmmNetwork } from '../../host/drivers/driver.ts';
import { requireKnownProtocol } from '../../host/guest-protocol.ts';
import { countOomKills } from '../../host/oom-kills.ts';
import { isAlive, killProcess, waitUntilReaped, type ProcessIdentity } from '../../host/process.ts';
import { shellQuote } from '../../host/shell-quote.ts';
import type { VmmChoice } from '../../host/vmm-choice.ts';
import { getImage } from '../../state/images.ts';
import { vmPaths } from '../../state/layout.ts';
import { setControlSocket } from '../../state/vm-changes.ts';
import type { Vm } from '../../state/vms.ts';
import type { EngineContext } from '../context.ts';
import { failpoint } from '../failpoints.ts';
import { guestSshPort } from '../guest-pool.ts';
import { guestKernel, kernelFiles } from '../images/kernels/find-kernel.ts';
import type { Operation } from '../operations.ts';
import { findVmm, vmmSockets } from '../vmm-drivers.ts';
import type { GuestSetup } from './capabilities.ts';
import { diskFormat } from './root-disk.ts';
import { guestVariables, imageDirectory, imageEnvironment } from './image-program.ts';
import type { RunStep } from './rollback.ts';
import { vmmDeathText } from './vmm-death.ts';

/** Generous: an emulated guest on a busy host takes many times what it needs alone. */
const readyTimeoutMs = 120_000;
/** A free port can be taken by somebody else before QEMU has it. */
const portAttempts = 5;

/**
 * Boots a VM's guest until it is ready and reachable, as steps that can be taken back: afterwards nothing runs
 * and no handle is left. The VM's lock is held by the caller.
 */
export async function bootVm(
  context: EngineContext,
  { id }: Pick<Vm, 'id'>,
  operation: Operation,
  run: RunStep,
): Promise<void> {
  const paths = vmPaths(context.layout, id);
  // Where it was before may be gone by now, as the runtime directory of a login is, or belong to somebody else.
  const vm = setControlSocket(context.db, id, paths.controlSocket);
  const choice = await run({
    stage: 'Choosing acceleration',
    apply: () =>
      context.chooseVmm({
        network: vm.network,
        disk: diskFormat(context, vm),
        cpus: vm.cpus,
        kernel: guestKernel(context.db, vm.kernelId),
      }),
  });

  const process = await run({
    stage: 'Starting VMM',
    apply: async () => {
      await mkdir(paths.directory, { recursive: true, mode: 0o700 });
      for (let attempt = 1; ; attempt++) {
        const setup = await collectSetup(context, vm, choice);
        await writeInitrd(context, vm, setup);
        await failpoint('initrd written');
        try {
          return await spawnVmm(context, vm, { setup, choice, signal: operation.signal });
        } catch (error) {
          const mayTryAgain = error instanceof BangerError && error.code === 'busy' && attempt < portAttempts;
          if (!mayTryAgain) throw error;
        }
      }
    },
    undo: () => endVmm(context, vm),
  });

  const ready = await run({
    stage: 'Booting guest',
    apply: async () => {
      const counting = countOomKills();
      try {
        return await waitForReady(paths.consoleLog, {
          timeoutMs: readyTimeoutMs,
          signal: operation.signal,
          hasExited: () => !isAlive(process),
        });
      } catch (error) {
        throw await explainEnd(context, vm, { process, error, oomKillsBefore: await counting });
      }
    },
  });

  await run({
    stage: 'Connecting',
    apply: async () => {
      requireKnownProtocol(ready.protocol, vm.name);
      await rememberBoot(context, vm, ready);
      await context.guest(vm, operation.signal);
      await failpoint('guest connected');
      for (const capability of context.capabilities) await capability.afterStart?.(context, vm, operation);
      // The last moment at which a cancelled boot is still taken back.
      if (operation.signal.aborted) throw abortError(operation.signal);
    },
    undo: () => context.guests.drop(vm.id),
  });
}

/** The console of a guest does not tell that its VMM was killed. */
async function explainEnd(
  context: EngineContext,
  vm: Vm,
  {
    process,
    error,
    oomKillsBefore,
  }: { readonly process: ProcessIdentity; readonly error: unknown; readonly oomKillsBefore: number },
): Promise<unknown> {
  if (isAlive(process)) return error;
  await waitUntilReaped(process);
  const signal = context.vmmSignals.get(vm.id);
  if (signal !== 'SIGKILL') return error;
  const oomKills = (await countOomKills()) - oomKillsBefore;
  const text = vmmDeathText({ lastLine: '', signal, oomKills, memoryMib: vm.memoryMib });
  return new BangerError('guest_unreachable', text, { cause: error });
}

/** Ends a VM's VMM, if any, and forgets its handles. Whatever the guest had not written is lost. */
export async function endVmm(context: EngineContext, vm: Vm): Promise<void> {
  context.guests.drop(vm.id);
  const known = context.handles.get(vm.id)?.process;
  if (known) await killProcess(known);
  // Between its start and the handle file a VMM is known by its command line alone.
  const found = findVmm(context, vm.id)?.process;
  if (found) await killProcess(found);
  await failpoint('VMM ended');
  await forgetVmm(context, vm);
}

/** Removes what a VMM that is gone has left: its socket, when it could not do so itself, and its handles. */
export async function forgetVmm(context: EngineContext, vm: Vm): Promise<void> {
  // One that cannot be removed harms nobody but who deletes the VM, and is told of it then.
  for (const socket of vmmSockets(vm)) {
    await rm(socket, { force: true }).catch((error: unknown) =>
      context.log('warn', `control socket was left: ${errorText(error)}`, { vm: vm.id }),
    );
  }
  for (const capability of [...context.capabilities].reverse()) {
    // The same holds: the next start, and who deletes the VM, find what is left.
    await capability
      .afterStop?.(context, vm)
      .catch((error: unknown) =>
        context.log('warn', `${capability.name} was not taken back: ${errorText(error)}`, { vm: vm.id }),
      );
  }
  await context.handles.clear(vm.id);
}

/** What all capabilities together say of a start. */
type WholeSetup = Required<Pick<GuestSetup, 'conf' | 'network'>> & Pick<GuestSetup, 'disk'>;

async function collectSetup(context: EngineContext, vm: Vm, choice: VmmChoice): Promise<WholeSetup> {
  const isFirst = vm.startedAt === undefined;
  let conf: Record<string, string> = {
    HOSTNAME: vm.name,
    VM_ID: vm.id,
    FIRST_BOOT: isFirst ? '1' : '',
    WORKDIR: imageDirectory(getImage(context.db, vm.imageId).config) ?? '',
  };
  let disk: GuestSetup['disk'];
  let network: VmmNetwork = {};
  for (const capability of context.capabilities) {
    const setup = await capability.configureGuest?.(context, vm, choice);
    conf = { ...conf, ...setup?.conf };
    disk = setup?.disk ?? disk;
    network = setup?.network ?? network;
  }
  return { conf, disk, network };
}

async function spawnVmm(
  context: EngineContext,
  vm: Vm,
  start: {
    readonly setup: WholeSetup;
    readonly choice: VmmChoice;
    readonly signal: AbortSignal;
  },
): Promise<ProcessIdentity> {
  const paths = vmPaths(context.layout, vm.id);
  const { driver: driverName, acceleration, reason } = start.choice;
  const driver = context.driver(driverName);
  context.vmmSignals.delete(vm.id);
  const process = await driver.start(
    {
      id: vm.id,
      cpus: vm.cpus,
      memoryMib: vm.memoryMib,
      kernel: (await kernelFiles(context, vm.kernelId)).kernel,
      initrd: paths.initrd,
      disk: start.setup.disk,
      consoleLog: paths.consoleLog,
      vmmLog: paths.vmmLog,
      controlSocket: vm.controlSocket,
      network: start.setup.network,
      acceleration,
      onExit: (signal) => {
        if (signal) context.vmmSignals.set(vm.id, signal);
      },
    },
    start.signal,
  );
  await failpoint('VMM started');
  const forwards = start.setup.network.user?.forwards ?? [];
  const way = forwards.find((port) => port.guestPort === guestSshPort);
  await context.handles.set(vm.id, {
    process,
    acceleration,
    driver: driverName,
    vmmReason: reason,
    cpus: vm.cpus,
    memoryMib: vm.memoryMib,
    diskBytes: vm.diskBytes,
    hostname: vm.name,
    reach: start.setup.network.user?.reach,
    toldEgress: vm.egress.kind,
    sshHost: way ? undefined : vm.address,
    sshPort: way?.hostPort ?? guestSshPort,
  });
  return process;
}

/** The guest's initramfs in three parts: toolbox, modules, and what only this VM has (see guest/init). */
async function writeInitrd(context: EngineContext, vm: Vm, setup: WholeSetup): Promise<void> {
  const paths = vmPaths(context.layout, vm.id);
  const key = await context.clientKey();
  const image = getImage(context.db, vm.imageId);
  const mine = cpioArchive([
    { path: '/etc/banger/vm.conf', content: assignments(setup.conf), mode: 0o600 },
    { path: '/etc/banger/host_key', content: await readFile(paths.hostKey), mode: 0o600 },
    {
      path: '/etc/banger/env',
      content: exports(imageEnvironment(vm.imageName, image.config.env)),
      mode: 0o600,
    },
    { path: '/root/.ssh/authorized_keys', content: `${key.publicLine}\n`, mode: 0o600 },
  ]);
  // One that a killed engine left half made may be read-only, as what it was copied from.
  await rm(paths.initrd, { force: true });
  await copyFile(await context.assets.file('toolbox.cpio.zst'), paths.initrd);
  await chmod(paths.initrd, 0o600);
  await appendFile(paths.initrd, await readFile((await kernelFiles(context, vm.kernelId)).modules));
  await appendFile(paths.initrd, mine);
}

function assignments(values: Readonly<Record<string, string>>): string {
  return Object.entries(values)
    .map(([name, value]) => `${name}=${value === '' ? "''" : shellQuote([value])}\n`)
    .join('');
}

/** Variables of the image's config, as its own programs would find them. */
function exports(variables: ReadonlyMap<string, string>): string {
  return guestVariables(variables)
    .passed.map(([name, value]) => `export ${name}=${value === '' ? "''" : shellQuote([value])}\n`)
    .join('');
}

async function rememberBoot(context: EngineContext, vm: Vm, ready: GuestReady): Promise<void> {
  if (!context.handles.get(vm.id))
    throw new BangerError('guest_unreachable', `VM "${vm.name}" ended while it was starting`);
  await context.handles.update(vm.id, {
    guestProtocol: ready.protocol,
    guestBootId: ready.bootId,
    phases: { ...ready.phases },
  });
}
