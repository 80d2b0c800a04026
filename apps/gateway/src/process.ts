/** The life of a gateway process: settings from the environment and pgquorum.yaml, ended by SIGTERM or SIGINT. */
import { existsSync, readFileSync } from 'node:fs';
import { loadSettings, type Settings } from '#core/config/settings.ts';
import { isPgquorumError } from '#core/errors/error.ts';
import { armFaults } from '#core/faults/arm.process.ts';
import { createLogger } from '#core/observability/logger.process.ts';
import { createGateway } from './gateway.ts';

const settingsFile = 'pgquorum.yaml';
/** What still runs after this is cut off. */
const closeTimeoutMs = 10_000;

function readSettings(): Settings {
  return loadSettings(process.env, existsSync(settingsFile) ? readFileSync(settingsFile, 'utf8') : undefined);
}

async function run(): Promise<void> {
  const settings = readSettings();
  const logger = createLogger({ app: 'gateway', level: settings.logLevel });
  const faults = armFaults(process.env);
  if (faults !== null) logger.warn({ faults }, 'faults are armed, for a test');
  const gateway = await createGateway(settings, logger);
  const ports = { http: gateway.httpPort, grpc: gateway.grpcPort };
  logger.info({ host: gateway.host, ...ports }, 'listening');
  process.send?.({ kind: 'listening', ...ports });
  let closing = false;
  const close = (signal: string): void => {
    if (closing) return;
    closing = true;
    logger.info({ signal }, 'stopping');
    setTimeout(() => process.exit(1), closeTimeoutMs).unref();
    gateway.close().then(
      () => process.exit(0),
      (cause: unknown) => {
        logger.error({ err: cause }, 'stopping failed');
        process.exit(1);
      },
    );
  };
  process.on('SIGTERM', close);
  process.on('SIGINT', close);
}

export function runProcess(): void {
  run().catch((cause: unknown) => {
    const known = isPgquorumError(cause);
    createLogger({ app: 'gateway', level: 'info' })[known ? 'fatal' : 'error'](
      { err: cause },
      known ? cause.detail : 'the gateway could not start',
    );
    process.exit(1);
  });
}
