/** The replicator without a process of its own, for a program that has its loops in itself. */
import 'reflect-metadata';
import type { Settings } from '#core/config/settings.ts';
import type { Logger } from '#core/observability/logger.process.ts';
import { startReplicator as start } from './app.module.ts';

/** Every loop that the application runs; `close` ends them after they have drained. */
export const startReplicator = (settings: Settings, logger: Logger): Promise<{ close(): Promise<void> }> =>
  start(settings, logger);
