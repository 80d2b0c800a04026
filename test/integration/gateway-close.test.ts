/** A gateway ends soon, whoever is connected to it. */
import { expect, test } from '@jest/globals';
import { once } from 'node:events';
import { createConnection } from 'node:net';
import { freshGateway } from './gateway-fixture.ts';

test('a connection on which nothing was asked yet holds no gateway up', async () => {
  const gateway = await freshGateway();
  const socket = createConnection(gateway.gateway.httpPort, '127.0.0.1');
  await once(socket, 'connect');
  const ended = once(socket, 'close');
  socket.resume();
  await gateway[Symbol.asyncDispose]();
  await ended;
  expect(socket.destroyed).toBe(true);
}, 120_000);
