/** How much disk a server has left, when it runs on this machine. */
import { statfs } from 'node:fs/promises';

const isHere = (url: string): boolean => {
  const { hostname, searchParams } = new URL(url);
  const host = searchParams.get('host') ?? hostname;
  return host === '' || host.startsWith('/') || /^(localhost|127\.\d+\.\d+\.\d+|\[?::1\]?)$/.test(host);
};

/** Null when it can not be seen from here: a server elsewhere or in a container, or a folder whose path the role is not told. */
export async function freeDisk(
  url: string,
  dataDirectory: string | undefined,
): Promise<{ freeBytes: number; totalBytes: number } | null> {
  if (dataDirectory === undefined || !isHere(url)) return null;
  try {
    const { bavail, blocks, bsize } = await statfs(dataDirectory);
    return { freeBytes: bavail * bsize, totalBytes: blocks * bsize };
  } catch {
    return null; // no such folder here: the server is behind a forwarded port
  }
}
