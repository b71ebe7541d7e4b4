import { once } from 'node:events';
import net from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { findFreePort } from '../../../src/dataplane/free-port.js';

const servers: net.Server[] = [];
const ADDRESS = '127.0.0.1';

afterEach(() => {
  for (const server of servers.splice(0)) server.close();
});

/** Takes some port of the kernel's choice, and answers it. */
async function listen(): Promise<number> {
  const server = net.createServer().listen(0, ADDRESS);
  servers.push(server);
  await once(server, 'listening');
  return (server.address() as net.AddressInfo).port;
}

describe('a free port', () => {
  it('is the first of the range that no record has', async () => {
    const first = await listen();
    servers.pop()?.close();
    expect(await findFreePort(ADDRESS, { first, last: first + 3 }, new Set())).toBe(first);
    expect(
      await findFreePort(ADDRESS, { first, last: first + 9 }, new Set([first, first + 1])),
    ).toBeGreaterThan(first + 1);
  });

  it('is none that somebody listens on', async () => {
    const first = await listen();
    expect(await findFreePort(ADDRESS, { first, last: first + 9 }, new Set())).toBeGreaterThan(first);
  });

  it('that does not exist is an error with the way out', async () => {
    const first = await listen();
    const range = { first, last: first + 1 };
    await expect(findFreePort(ADDRESS, range, new Set([first + 1]))).rejects.toMatchObject({
      code: 'no_space',
      message: expect.stringContaining('widen TARGET_PORTS') as string,
    });
  });

  it('on an address that is not of this host is an error, not an endless search', async () => {
    const range = { first: 20_000, last: 20_002 };
    await expect(findFreePort('192.0.2.1', range, new Set())).rejects.toMatchObject({
      code: 'unavailable',
      message: expect.stringContaining('TARGET_ADDRESS 192.0.2.1 is not an address of this host') as string,
    });
  });
});
