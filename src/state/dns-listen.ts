import { BangerError } from '../errors.ts';
import { parsedText } from './toml.ts';

/** Where the engine answers for names of VMs. */
export interface DnsListen {
  /** Absent: nowhere */
  readonly place?: { readonly address: string; readonly port: number };
  /** True when it listens though no VM has an address of its own */
  readonly isAlways: boolean;
}

/** No port that programs are known by, and above those that only root may listen on. */
export const defaultDnsListen: DnsListen = { place: { address: '127.0.0.1', port: 10053 }, isAlways: false };

/** Text such as "auto", "off" or "127.0.0.1:10053" */
export const dnsListenText = parsedText((text): DnsListen => {
  if (text === 'off') return { isAlways: false };
  if (text === 'auto') return defaultDnsListen;
  const [, address, port] = /^(127\.\d{1,3}\.\d{1,3}\.\d{1,3}|\[::1\]):(\d{1,5})$/.exec(text) ?? [];
  const plain = address?.replace(/[[\]]/g, '');
  const isAddress = plain?.split('.').every((part) => plain === '::1' || Number(part) <= 255);
  if (!plain || !isAddress || Number(port) > 65_535) {
    throw new BangerError(
      'invalid_argument',
      `"${text}" is neither "auto", "off" nor an address of the loopback with a port, such as "127.0.0.1:10053"`,
    );
  }
  return { place: { address: plain, port: Number(port) }, isAlways: true };
});
