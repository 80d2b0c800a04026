/** Free TCP ports on the loopback address. A port found free can be taken a moment later: whoever binds it must be ready to ask again. */
import { randomInt } from 'node:crypto';
import { createServer } from 'node:net';

/** True when nothing listens on the port of this address. */
export function isPortFree(port: number, host = '127.0.0.1'): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = createServer();
    probe.once('error', () => resolve(false));
    probe.listen({ port, host, exclusive: true }, () => probe.close(() => resolve(true)));
  });
}

/** Below the range from which systems take the ports of outgoing connections, so that a server finds its port again after a restart. */
const firstPort = 20_000;
const lastPort = 32_000;

/** `count` different free ports, in no order that another starter would follow. */
export async function freePorts(count: number, host = '127.0.0.1'): Promise<number[]> {
  const found = new Set<number>();
  for (let tries = 0; found.size < count; tries++) {
    if (tries > 2000)
      throw new Error(`no ${count} free ports between ${firstPort} and ${lastPort} on ${host}`);
    const port = randomInt(firstPort, lastPort);
    if (!found.has(port) && (await isPortFree(port, host))) found.add(port);
  }
  return [...found];
}

/** The wanted port when it is free, else any free one. 0 asks for any. */
export async function portOr(wanted: number, host = '127.0.0.1'): Promise<number> {
  if (wanted !== 0 && (await isPortFree(wanted, host))) return wanted;
  const [port] = await freePorts(1, host);
  return port!;
}
