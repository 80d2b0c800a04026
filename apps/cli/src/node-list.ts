/** The nodes that the settings name, or those of the embedded cluster that is running. */
import { existsSync, readFileSync } from 'node:fs';
import type { NodeAddress, Settings } from '#core/config/settings.ts';
import { dataFolderPaths } from '#core/embedded/data-folder.os.ts';
import { PgquorumError } from '#core/errors/error.ts';

export function nodesOf(settings: Settings): readonly NodeAddress[] {
  if (settings.nodes !== undefined) return settings.nodes;
  const { clusterFile } = dataFolderPaths(settings.dataDir);
  if (!existsSync(clusterFile))
    throw new PgquorumError(
      'settings_invalid',
      'PGQUORUM_NODES is not set and no embedded cluster is running: start one with npm start',
    );
  const { nodes } = JSON.parse(readFileSync(clusterFile, 'utf8')) as { nodes: Omit<NodeAddress, 'weight'>[] };
  return nodes.map((node) => ({ ...node, weight: 1 }));
}
