/** `cluster.json`: where the embedded cluster that is running can be reached. It holds passwords, so it is for its owner's eyes only. */
import { readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';

export interface ClusterFile {
  readonly http: string;
  readonly grpc: string;
  readonly nodes: readonly { readonly name: string; readonly zone: string; readonly url: string }[];
}

export function writeClusterFile(path: string, content: ClusterFile): void {
  writeFileSync(`${path}.new`, `${JSON.stringify(content, null, 2)}\n`, { mode: 0o600 });
  renameSync(`${path}.new`, path);
}

/** undefined when no cluster is running here, or it is not ready yet. */
export function readClusterFile(path: string): ClusterFile | undefined {
  try {
    return JSON.parse(readFileSync(path, 'utf8')) as ClusterFile;
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw cause;
  }
}

export function removeClusterFile(path: string): void {
  rmSync(path, { force: true });
}
