/** Who calls, and with what options, in the same form for HTTP and gRPC. */
export interface Caller {
  /** `key:…` of an API key, or `anonymous` when none is needed. */
  readonly principal: string;
  /** Aborted when the caller is gone. */
  readonly signal?: AbortSignal;
}

export interface WriteCall {
  readonly caller: Caller;
  /** consistency, timeoutMs, coordinator, onTimeout. */
  readonly options: Readonly<Record<string, unknown>>;
  readonly idempotencyKey: string | null;
  /** The bytes that were sent: a repeat under the same key must have the same. */
  readonly body: string | Uint8Array;
}

export interface PatchCall extends WriteCall {
  /** The version that the vector has to have, as it was sent. */
  readonly ifMatch: string | null;
}

export interface ReadCall {
  readonly caller: Caller;
  readonly options: Readonly<Record<string, unknown>>;
}
