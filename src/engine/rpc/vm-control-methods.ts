import * as z from 'zod/mini';
import { errorCodes } from '../../errors.ts';
import { method } from './method.ts';
import { labelSelector, reference, vmView } from './vm-methods.ts';

/**
 * Finds the VMs that several references or labels mean, all of them at one moment. A reference that means none
 * says so in its place, and does not keep the others from being found. A VM that is meant twice is told once.
 */
export const vmSelect = method(
  'vm.select',
  z.object({
    references: z._default(z.array(reference), []),
    /** All of these; used when there are no references */
    labels: z._default(z.array(labelSelector), []),
  }),
  z.array(
    z.union([
      z.object({ id: z.string(), name: z.string() }),
      z.object({
        error: z.object({
          code: z.enum(errorCodes),
          message: z.string(),
          hint: z.optional(z.string()),
        }),
      }),
    ]),
  ),
);

/** Makes a running VM's processors stand still, keeping its memory. One that is paused is left alone. */
export const vmPause = method('vm.pause', z.object({ vm: reference }), vmView);

/** Lets a paused VM go on. One that runs is left alone. */
export const vmResume = method('vm.resume', z.object({ vm: reference }), vmView);
