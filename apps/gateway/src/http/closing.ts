/**
 * The end of the HTTP server: every request that was let in is answered, and no connection holds it up. Node ends the connections that are idle at that
 * moment, and no others: not those whose request is answered a moment later and that are kept for a next one, nor those on which nothing was asked yet.
 */
import type { Socket } from 'node:net';
import type { FastifyInstance } from 'fastify';

const idleEveryMs = 100;

export function installClosing(instance: FastifyInstance): void {
  endUnusedConnections(instance);
  let closing = false;
  instance.addHook('preClose', (done) => {
    closing = true;
    // Answers that were begun before could not tell their clients.
    const timer = setInterval(() => instance.server.closeIdleConnections(), idleEveryMs);
    instance.server.once('close', () => clearInterval(timer));
    done();
  });
  instance.addHook('onSend', (_request, reply, payload, done) => {
    if (closing) reply.header('connection', 'close');
    done(null, payload);
  });
}

/**
 * Browsers open connections ahead of a request. The server counts those neither as idle nor as busy, and would wait for them when it closes. By the
 * client's address and port: with TLS a request has another socket than the connection that it came over.
 */
function endUnusedConnections(instance: FastifyInstance): void {
  const unused = new Map<string, Socket>();
  const peerOf = ({ remoteAddress, remotePort }: Socket): string => `${remoteAddress} ${remotePort}`;
  instance.server.on('connection', (socket) => {
    const peer = peerOf(socket);
    unused.set(peer, socket);
    socket.once('close', () => unused.get(peer) === socket && unused.delete(peer));
  });
  instance.server.on('request', ({ socket }) => unused.delete(peerOf(socket)));
  instance.addHook('preClose', (done) => {
    for (const socket of unused.values()) socket.destroy();
    done();
  });
}
