/** The replicator without a process of its own, for a program that has its loops in itself. */
import 'reflect-metadata';
import type { Settings } from '#core/config/settings.ts';
import type { Logger } from '#core/observability/logger.process.ts';
import { Replicator } from './replicator.ts';

/** Every loop that the application runs; `close` ends them after they have drained. */
export async function startReplicator(
  settings: Settings,
  logger: Logger,
): Promise<{ close(): Promise<void> }> {
  const replicator = new Replicator(settings, logger);
  await replicator.start();
  return { close: () => replicator.stop() };
}
