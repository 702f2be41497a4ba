import { randomBytes } from 'node:crypto';
import { mkdir } from 'node:fs/promises';
import { BangerError } from '../../errors.ts';
import { syncDirectory, writeFileAtomic } from '../../host/files.ts';
import { generateHostKey } from '../../host/keys.ts';
import { vmPaths } from '../../state/layout.ts';
import { egressAll, parseEgress } from '../../state/egress.ts';
import { saveVmTemplate, type RecordedTemplate } from '../../state/templates.ts';
import type { PublishedSocket } from '../../state/sockets.ts';
import { ownedPort, type PublishedPort } from '../../state/ports.ts';
import {
  deleteVmRow,
  getVm,
  insertVm,
  listVms,
  moveVm,
  type Labels,
  type NewVm,
  type Vm,
  type VmFileSync,
} from '../../state/vms.ts';
import type { EngineContext } from '../context.ts';
import { failpoint } from '../failpoints.ts';
import { holdImage } from '../images/hold-image.ts';
import { chooseKernel } from '../images/kernels/find-kernel.ts';
import { shownName } from '../images/layers/layer-refusal.ts';
import { refuseUnreachablePorts } from '../network/network.ts';
import type { Operation } from '../operations.ts';
import { bootVm } from './boot-vm.ts';
import { cleanUpCapabilities } from './capabilities.ts';
import { guestVariables, imageEnvironment } from './image-program.ts';
import { chooseDiskMethod } from './choose-disk.ts';
import { movedPortNotes, planPorts, type PortName, type PortRequest } from './published-ports.ts';
import { withRollback } from './rollback.ts';
import { generateVmName } from './vm-names.ts';
import { hostSize, planVmSize } from './vm-spec.ts';
import { watchVmm } from './vmm-watch.ts';

export interface CreateVmParams {
  readonly name?: string;
  readonly image?: string;
  /** Absent: the default */
  readonly kernel?: string;
  readonly cpus?: number;
  readonly memoryMib?: number;
  readonly diskBytes?: number;
  readonly labels?: Labels;
  /** `user`, `none`, or the name of a network; absent: as the configuration says */
  readonly network?: string;
  readonly publish?: readonly PortRequest[];
  readonly publishSockets?: readonly PublishedSocket[];
  /** Whether what listens in it is published as long as it does */
  readonly publishAll?: boolean;
  readonly fileSync?: readonly VmFileSync[];
  /** Absent: it does */
  readonly takesConfigFiles?: boolean;
  /** What it may reach: `all`, `none` or rules; absent: as the configuration says */
  readonly egress?: readonly string[];
  readonly ttlMs?: number;
  /** Absent: as the configuration says; null: never */
  readonly idleStopMs?: number | null;
  readonly start: boolean;
  /** Belongs to one `vm run` and goes with it, also when the engine dies */
  readonly ephemeral: boolean;
  /** What the other params were taken from, to be recorded */
  readonly recordedTemplate?: RecordedTemplate;
}

/**
 * Creates a VM in three phases: what can be slow before anything is reserved (image, checks) without a lock; the
 * name within milliseconds; disk and boot under the VM's own lock. If anything fails, nothing is left of it.
 */
export async function createVm(
  context: EngineContext,
  params: CreateVmParams,
  operation: Operation,
): Promise<Vm> {
  const config = context.config();
  const size = planVmSize(params, config, hostSize());
  const imageName = params.image ?? config.image;
  if (params.name !== undefined) refuseTakenName(context, params.name);
  const kernelId = chooseKernel(context.db, params.kernel)?.id;
  const ports = await planPorts(params.publish ?? [], portOwners(context));
  const network = params.network ?? config.network;
  // A VM without a network reaches nothing anyway.
  if (params.publishAll) refuseUnreachablePorts(network, 1);
  const defaultEgress = network === 'none' ? egressAll : config.egress;
  const request = {
    network,
    ports,
    sockets: params.publishSockets ?? [],
    fileSync: params.fileSync ?? [],
    takesConfigFiles: params.takesConfigFiles ?? true,
    publishesAll: params.publishAll ?? false,
    egress: params.egress === undefined ? defaultEgress : parseEgress(params.egress),
  };
  for (const capability of context.capabilities) await capability.checkRequest?.(context, request);
  operation.enter('Finding image');
  using held = await holdImage(context, imageName, operation);
  const { image } = held;
  tellLeftOut(image.config.env, imageName, operation);

  const key = generateHostKey();
  const id = randomBytes(16).toString('hex');
  const planned = {
    id,
    imageId: image.id,
    imageName,
    kernelId,
    ...size,
    diskMethod: await chooseDiskMethod(context, { imageId: image.id, network, cpus: size.cpus, kernelId }),
    hostPublicKey: key.publicLine,
    ephemeral: params.ephemeral,
    labels: params.labels,
    ...request,
    ttlMs: params.ttlMs,
    idleStopMs: params.idleStopMs === undefined ? config.idleStopMs : (params.idleStopMs ?? undefined),
    controlSocket: vmPaths(context.layout, id).controlSocket,
    createdAt: new Date().toISOString(),
  } as const;
  for (const capability of context.capabilities)
    await capability.preflight?.(context, { ...planned, name: params.name ?? id });

  // Awaited here: the image is held until the VM's row holds it.
  return await context.locks.vm.run(id, operation.signal, () =>
    withRollback(operation, context.log, async (run) => {
      // First, so that it is undone last: while the row exists, the reconciler knows that this VM may still own
      // something on the host.
      const vm = await run({
        stage: 'Reserving name',
        apply: () =>
          context.locks.reservation.run('name', operation.signal, async () => {
            const reserved = await reserveWithPorts(context, planned, params);
            for (const capability of context.capabilities) await capability.reserve?.(context, reserved);
            if (params.recordedTemplate) saveVmTemplate(context.db, id, params.recordedTemplate);
            return getVm(context.db, id);
          }),
        undo: () => deleteVmRow(context.db, id),
      });

      operation.about?.(vm.name);
      // Its first start tells them, too.
      if (!params.start) for (const note of movedPortNotes(vm.ports)) operation.note?.(note);
      await run({
        stage: 'Creating disk',
        apply: async () => {
          const paths = vmPaths(context.layout, id);
          await mkdir(paths.directory, { recursive: true, mode: 0o700 });
          await failpoint('directory made');
          await writeFileAtomic(paths.hostKey, key.dropbear, 0o600);
          for (const capability of context.capabilities) {
            await capability.prepareHost?.(context, vm, operation);
            if (capability.prepareHost) await failpoint(`${capability.name} prepared`);
          }
          await syncDirectory(paths.directory);
        },
        undo: () => cleanUpCapabilities(context, vm),
      });
      if (!params.start) return moveVm(context.db, id, 'stopped');

      moveVm(context.db, id, 'starting');
      await failpoint('row starting');
      await bootVm(context, vm, operation, run);
      const running = moveVm(context.db, id, 'running');
      watchVmm(context, running);
      return running;
    }),
  );
}

/** Programs that expect a variable are not to miss it without a word. */
function tellLeftOut(env: readonly string[], imageName: string, operation: Operation): void {
  const { leftOut } = guestVariables(imageEnvironment(imageName, env));
  if (leftOut.length === 0) return;
  const names = leftOut.slice(0, 5).map((name) => shownName(name.slice(0, 100)));
  const more = leftOut.length > names.length ? ` and ${leftOut.length - names.length} more` : '';
  operation.note?.(
    `Warning: Variables of image "${imageName}" that a shell cannot have are left out: ${names.join(', ')}${more}`,
  );
}

/** Before a pull of minutes: most clashes of names are there from the start. The reservation decides, later. */
function refuseTakenName(context: EngineContext, name: string): void {
  if (!listVms(context.db).some((vm) => vm.name === name)) return;
  throw new BangerError('already_exists', `There is already a VM named "${name}"`, {
    hint: `Choose another name, or delete it with: banger vm delete ${name}`,
  });
}

function portOwners({ db }: EngineContext) {
  const isSame = (one: PortName, { protocol, hostPort }: PortName): boolean =>
    one.protocol === protocol && one.hostPort === hostPort;
  return {
    isOwned: (port: PortName) => listVms(db).some((vm) => vm.ports.some((one) => isSame(one, port))),
    owned: (port: PublishedPort) => ownedPort(db, port),
  };
}

const portAttempts = 5;

/**
 * Ports were planned before the image was found, which may have taken minutes. One that was ours to choose, and that
 * another VM has got since, is replaced by another; one that the user chose is an error.
 */
async function reserveWithPorts(
  context: EngineContext,
  planned: Omit<NewVm, 'name'>,
  { name, publish = [] }: Pick<CreateVmParams, 'name' | 'publish'>,
): Promise<Vm> {
  const owners = portOwners(context);
  const isLost = ({ ports = [] }: typeof planned): boolean =>
    ports.some((port) => port.chosen && owners.isOwned(port));
  for (let attempt = 1; ; attempt++) {
    const latest = isLost(planned) ? { ...planned, ports: await planPorts(publish, owners) } : planned;
    try {
      return reserve(context, latest, name);
    } catch (error) {
      // A VM that is changed needs no reservation, and may have been faster again.
      if (!isLost(latest) || attempt === portAttempts) throw error;
    }
  }
}

const generatedNameAttempts = 5;

function reserve(context: EngineContext, planned: Omit<NewVm, 'name'>, name: string | undefined): Vm {
  if (name !== undefined) return insertVm(context.db, { ...planned, name });
  for (let attempt = 1; ; attempt++) {
    const taken = namesOf(context);
    const generated = generateVmName((candidate) => taken.has(candidate));
    try {
      return insertVm(context.db, { ...planned, name: generated });
    } catch (error) {
      // A port that belongs to another VM is no matter of names.
      if (!namesOf(context).has(generated) || attempt === generatedNameAttempts) throw error;
    }
  }
}

function namesOf(context: EngineContext): Set<string> {
  return new Set(listVms(context.db).map((vm) => vm.name));
}
