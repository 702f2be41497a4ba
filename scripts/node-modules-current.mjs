/**
 * Succeeds when node_modules holds what package-lock.json says.
 *
 * npm writes node_modules/.package-lock.json last, so an interrupted install is
 * never taken for a finished one. Plain JavaScript: it runs before there is a Node 24.
 */
import { readFileSync } from 'node:fs';

const root = new URL('..', import.meta.url);

const hasGlibc = process.report.getReport().header.glibcVersionRuntime !== undefined;

process.exitCode = isCurrent() ? 0 : 1;

function isCurrent() {
  const wanted = packagesIn('package-lock.json');
  const installed = packagesIn('node_modules/.package-lock.json');
  if (wanted === undefined || installed === undefined) return false;
  return Object.entries(wanted).every(([path, entry]) => {
    if (path === '') return true;
    const found = installed[path];
    return found === undefined ? mayBeAbsent(entry) : found.integrity === entry.integrity;
  });
}

function packagesIn(path) {
  try {
    return JSON.parse(readFileSync(new URL(path, root), 'utf8')).packages;
  } catch {
    return undefined;
  }
}

/** Optional packages are left out on other platforms, and those without a platform when only such packages want them. */
function mayBeAbsent({ optional, os, cpu, libc }) {
  if (!optional) return false;
  const isForHere =
    cpu !== undefined &&
    allows(os, process.platform) &&
    allows(cpu, process.arch) &&
    allows(libc, hasGlibc ? 'glibc' : 'musl');
  return !isForHere;
}

function allows(list, value) {
  return list === undefined || [list].flat().includes(value);
}
