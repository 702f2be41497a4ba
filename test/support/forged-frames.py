"""Stands for a guest that forges frames: opens its tap and another one's, sends, and tells what arrived.

Arguments: tap, its MAC and address; the other tap, its MAC and address; the gateway's MAC; an address beyond it.
Prints JSON: the names of the frames that arrived at the other tap, and whether the gateway answered.
"""

import fcntl
import ipaddress
import json
import os
import select
import struct
import sys
import time

tap, mac, ip, other_tap, other_mac, other_ip, gateway_mac, beyond = sys.argv[1:]
BROADCAST = 'ff:ff:ff:ff:ff:ff'
FORGED_MAC = '02:00:00:00:be:ef'
gateway = str(ipaddress.ip_network(f'{ip}/24', strict=False).network_address + 1)
forged_ip = str(ipaddress.ip_address(ip) + 50)


def open_tap(name):
    fd = os.open('/dev/net/tun', os.O_RDWR)
    tun_set_iff, iff_tap, iff_no_pi = 0x400454CA, 2, 0x1000
    fcntl.ioctl(fd, tun_set_iff, struct.pack('16sH22x', name.encode(), iff_tap | iff_no_pi))
    return fd


def packed(address):
    return ipaddress.ip_address(address).packed


def ether(source, destination, kind, payload):
    raw = lambda text: bytes.fromhex(text.replace(':', ''))
    return raw(destination) + raw(source) + kind + payload


def checksum(data):
    total = sum(struct.unpack(f'!{len(data) // 2}H', data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def udp(source, destination, marker, source_port=4000, port=9999):
    return packet(source, destination, struct.pack('!HHHH', source_port, port, 8 + len(marker), 0) + marker)


def packet(source, destination, data, fragment=0):
    fields = (0x45, 0, 20 + len(data), 7, fragment, 64, 17, 0)
    header = struct.pack('!BBHHHBBH', *fields) + packed(source) + packed(destination)
    return header[:10] + struct.pack('!H', checksum(header)) + header[12:] + data


def arp(operation, sender_mac, sender_ip, target_ip, marker):
    raw = bytes.fromhex(sender_mac.replace(':', ''))
    body = struct.pack('!HHBBH', 1, 0x0800, 6, 4, operation) + raw + packed(sender_ip) + bytes(6) + packed(target_ip)
    return body + marker


def router_advertisement(marker):
    body = struct.pack('!BBHBBHII', 134, 0, 0, 64, 0, 1800, 0, 0) + marker
    source, destination = packed('fe80::1'), packed('ff02::1')
    return struct.pack('!IHBB', 6 << 28, len(body), 58, 255) + source + destination + body


IP, ARP, IP6, VLAN = b'\x08\x00', b'\x08\x06', b'\x86\xdd', b'\x81\x00\x00\x05\x08\x00'
# One that nobody has given a meaning to, and none: a length, and LLC in what follows.
EXPERIMENT, LENGTH = b'\x88\xb5', b'\x00\x40'


def frames():
    def named(name):
        return f'frame-{name};'.encode()

    yield 'honest', ether(mac, BROADCAST, IP, udp(ip, other_ip, named('honest')))
    yield 'honest-arp', ether(mac, BROADCAST, ARP, arp(1, mac, ip, other_ip, named('honest-arp')))
    yield 'mac', ether(FORGED_MAC, BROADCAST, IP, udp(ip, other_ip, named('mac')))
    yield 'ip', ether(mac, BROADCAST, IP, udp(forged_ip, other_ip, named('ip')))
    yield 'gateway-ip', ether(mac, other_mac, IP, udp('192.0.2.2', other_ip, named('gateway-ip')))
    yield 'arp-mac', ether(mac, BROADCAST, ARP, arp(2, FORGED_MAC, ip, other_ip, named('arp-mac')))
    yield 'arp-ip', ether(mac, BROADCAST, ARP, arp(2, mac, forged_ip, other_ip, named('arp-ip')))
    yield 'ra', ether(mac, '33:33:00:00:00:01', IP6, router_advertisement(named('ra')))
    yield 'dhcp', ether(mac, BROADCAST, IP, udp(ip, '255.255.255.255', named('dhcp'), 67, 68))
    yield 'vlan', ether(mac, BROADCAST, VLAN, udp(ip, other_ip, named('vlan')))
    yield 'stacked-vlan', ether(mac, BROADCAST, b'\x88\xa8\x00\x05' + VLAN, udp(ip, other_ip, named('stacked-vlan')))
    yield 'experiment', ether(mac, other_mac, EXPERIMENT, named('experiment'))
    yield 'llc', ether(mac, BROADCAST, LENGTH, b'\xaa\xaa\x03' + named('llc'))
    # The second part of a packet, which says nothing of ports, by itself.
    yield 'fragment-ip', ether(mac, other_mac, IP, packet(forged_ip, other_ip, named('fragment-ip'), fragment=100))
    # Beyond the gateway somebody else listens for these.
    yield 'routed', ether(mac, gateway_mac, IP, udp(ip, beyond, named('routed')))
    yield 'routed-ip', ether(mac, gateway_mac, IP, udp(forged_ip, beyond, named('routed-ip')))
    # To a bridge's own protocols, whose frames skip what the bridge does with those of others.
    yield 'link-local', ether(mac, '01:80:c2:00:00:0e', IP, udp(ip, gateway, named('link-local')))
    # Somebody else publishes that port at the gateway's address, as docker does.
    yield 'published', ether(mac, gateway_mac, IP, udp(ip, gateway, named('published'), port=9998))
    # And at the host's address towards the world.
    yield 'published-beyond', ether(mac, gateway_mac, IP, udp(ip, '192.0.2.1', named('published-beyond'), port=9998))
    yield 'routed-mac', ether(FORGED_MAC, gateway_mac, IP, udp(ip, beyond, named('routed-mac')))


def main():
    mine, other = open_tap(tap), open_tap(other_tap)
    time.sleep(0.2)
    os.write(mine, ether(mac, BROADCAST, ARP, arp(1, mac, ip, gateway, b'')))
    names = []
    for name, frame in frames():
        names.append(name)
        os.write(mine, frame)
    arrived, answered = set(), False
    deadline = time.monotonic() + 0.8
    while time.monotonic() < deadline:
        for fd in select.select([mine, other], [], [], 0.1)[0]:
            frame = os.read(fd, 4096)
            is_answer = frame[12:14] == ARP and frame[20:22] == b'\x00\x02' and frame[28:32] == packed(gateway)
            if fd == mine and is_answer:
                answered = True
            if fd == other:
                arrived.update(name for name in names if f'frame-{name};'.encode() in frame)
    print(json.dumps({'arrived': sorted(arrived), 'answered': answered}))


main()
