import { egressWords, parseEgress } from '../state/egress.ts';
import { orUsage } from './parse.ts';

/** How `--egress` and its like are explained. */
export const egressHelp =
  'what it may reach: all, none, or names and networks with commas, such as git.example.org,*.example.org:443,10.0.0.0/8';

/** Collects `--egress`, which may be given several times: the words of one policy, in their usual form. */
export function collectEgress(text: string, collected: readonly string[] = []): string[] {
  return orUsage(() => egressWords(parseEgress([...collected, text])));
}

/** What a policy means, for people: `all (…)`, `none`, or the rules. */
export function egressText(words: readonly string[], network: string): string {
  if (network === 'none') return 'nothing: it has no network';
  if (network !== 'user' && words.join() === 'all') return 'all: whatever its network leads to';
  switch (words.join()) {
    case 'all':
      return 'all: whatever this host reaches, its private networks and its own services (10.0.2.2) too';
    case 'none':
      return 'none';
    default:
      return words.join(', ');
  }
}
