/** The audit log: one line for every administrative call, refused ones too. Only the fields that the table of operations names are shown, never a body. */
import type { Logger } from '#core/observability/logger.process.ts';
import type { Operation } from './operation-table.ts';

export interface AuditedCall {
  readonly operation: Operation;
  readonly principal: string;
  readonly requestId: string;
  readonly transport: 'http' | 'grpc';
  /** Where fields of the target may stand: of the path, the query, the body. */
  readonly fields: readonly unknown[];
  /** `ok`, or the code of the error. */
  readonly outcome: string;
}

const shownMax = 200;

export class AuditLog {
  readonly #logger: Logger;

  /** Written whatever the level of the log is, unless it is silent. */
  constructor(logger: Logger) {
    this.#logger = logger.level === 'silent' ? logger : logger.child({ audit: true }, { level: 'info' });
  }

  write({ operation, principal, requestId, transport, fields, outcome }: AuditedCall): void {
    if (operation.audited === undefined) return;
    this.#logger.info(
      {
        principal,
        action: operation.name,
        target: targetOf(operation.audited, fields),
        outcome,
        transport,
        requestId,
      },
      'administrative call',
    );
  }
}

function targetOf(names: readonly string[], places: readonly unknown[]): Record<string, unknown> {
  const target: Record<string, unknown> = {};
  for (const name of names)
    for (const place of places) {
      const value =
        typeof place === 'object' && place !== null && Object.hasOwn(place, name)
          ? (place as Record<string, unknown>)[name]
          : undefined;
      if (!['string', 'number', 'boolean'].includes(typeof value) || Object.hasOwn(target, name)) continue;
      target[name] = typeof value === 'string' ? value.slice(0, shownMax) : value;
    }
  return target;
}
