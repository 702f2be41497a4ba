/** How a VM's root disk is made of its image's filesystem; host/disks has the means. */
export const diskMethodNames = ['qcow2', 'reflink', 'dm-snapshot', 'copy'] as const;
export type DiskMethodName = (typeof diskMethodNames)[number];
