import { BangerError } from '../errors.ts';
import type { Database } from '../state/database.ts';
import { listVms, resolveVm, type Labels, type Vm } from '../state/vms.ts';
import type { ParsedParams, ResultOf } from './rpc/method.ts';
import type { vmSelect } from './rpc/vm-control-methods.ts';
import type { LabelSelector } from './rpc/vm-methods.ts';

/** The VMs that references or labels mean now; see the contract. Labels that no VM has are an error (`not_found`). */
export function selectVms(
  db: Database,
  { references, labels }: ParsedParams<typeof vmSelect>,
): ResultOf<typeof vmSelect> {
  if (references.length > 0) return db.transaction(() => resolveAll(db, references))();
  const matching = labelled(listVms(db), labels);
  if (matching.length === 0) {
    throw new BangerError('not_found', `No VM has the label ${labels.map(selectorText).join(' and ')}`, {
      hint: 'See labels with: banger vm list --json',
    });
  }
  return matching.map(({ id, name }) => ({ id, name }));
}

/** Those of the VMs that have all of these labels. */
export function labelled(vms: readonly Vm[], labels: readonly LabelSelector[]): Vm[] {
  return vms.filter((vm) => labels.every((label) => hasLabel(vm.labels, label)));
}

function hasLabel(labels: Labels, { key, value }: LabelSelector): boolean {
  return Object.hasOwn(labels, key) && (value === undefined || labels[key] === value);
}

function selectorText({ key, value }: LabelSelector): string {
  return value === undefined ? key : `${key}=${value}`;
}

function resolveAll(db: Database, references: readonly string[]): ResultOf<typeof vmSelect> {
  const seen = new Set<string>();
  return references.flatMap((reference): ResultOf<typeof vmSelect> => {
    try {
      const { id, name } = resolveVm(db, reference);
      if (seen.has(id)) return [];
      seen.add(id);
      return [{ id, name }];
    } catch (error) {
      if (!(error instanceof BangerError)) throw error;
      const { code, message, hint } = error;
      return [{ error: { code, message, hint } }];
    }
  });
}
