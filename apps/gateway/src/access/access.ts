/** The parts that both transports ask about a caller. */
import type { AuditLog } from './audit.ts';
import type { Guard } from './guard.ts';
import type { Limits } from './limits.ts';
import type { TopologyGate } from './topology-gate.ts';
import type { Certificates } from './transport.files.ts';

export interface Access {
  readonly guard: Guard;
  readonly gate: TopologyGate;
  readonly audit: AuditLog;
  readonly limits: Limits;
  /** Null without TLS. */
  readonly certificates: Certificates | null;
}
