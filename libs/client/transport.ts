/**
 * Requests with deadlines and retries. What is repeated must be safe to repeat: reads, what has the same effect twice, and writes that carry a key by which
 * the gateway knows them again. Anything else is repeated only when the gateway has refused it for being busy, or was never reached.
 */
import { answeredError, localError, PgquorumError } from './error.ts';

export interface CallOptions {
  readonly signal?: AbortSignal;
  /** How long the call may take in all, retries and pauses included. */
  readonly deadlineMs?: number;
  /** How often it is repeated at most. */
  readonly retries?: number;
}

export interface TransportOptions extends CallOptions {
  /** Where the gateway is, e.g. `http://127.0.0.1:8080`; a path before the routes stays. */
  readonly url: string;
  readonly apiKey?: string;
  /** Sent with each request, e.g. for a proxy. */
  readonly headers?: Readonly<Record<string, string>>;
  /** Instead of the global one. */
  readonly fetch?: typeof fetch;
}

export interface Request {
  readonly method: 'GET' | 'PUT' | 'POST' | 'PATCH' | 'DELETE';
  readonly path: string;
  readonly query?: Readonly<Record<string, string | number | boolean | undefined>>;
  readonly headers?: Readonly<Record<string, string | undefined>>;
  readonly body?: unknown;
  /** Doing it twice is doing it once. */
  readonly repeatable: boolean;
}

const deadlineMsDefault = 30_000;
const retriesDefault = 4;
const pauseMinMs = 100;
const pauseMaxMs = 5000;

export class Transport {
  readonly #options: TransportOptions;
  readonly #base: string;
  readonly #fetch: typeof fetch;

  constructor(options: TransportOptions) {
    this.#options = options;
    this.#base = options.url.replace(/\/+$/, '');
    // Called as a method of something else, the browser's own would throw.
    this.#fetch = options.fetch ?? ((input, init) => fetch(input, init));
  }

  async json<T>(request: Request, options: CallOptions = {}): Promise<T> {
    return parse(await this.#send(request, options)) as T;
  }

  text(request: Request, options: CallOptions = {}): Promise<string> {
    return this.#send(request, options);
  }

  /** One attempt, whose body is read by the caller. */
  async open(request: Request, signal: AbortSignal): Promise<Response> {
    const response = await this.#attempt(request, signal);
    if (response.ok) return response;
    throw answeredError(response.status, await response.text(), response.headers.get('x-request-id'));
  }

  async #send(request: Request, options: CallOptions): Promise<string> {
    const { deadlineMs, retries, signal: own } = { ...this.#options, ...options };
    const deadline = AbortSignal.timeout(deadlineMs ?? deadlineMsDefault);
    const signals = [deadline, this.#options.signal, own].filter((one) => one !== undefined);
    const signal = AbortSignal.any(signals);
    for (let attempt = 0; ; attempt++) {
      const outcome = await this.#once(request, signal);
      if ('text' in outcome) return outcome.text;
      throwIfOver(signal, deadline, outcome.error);
      if (attempt >= (retries ?? retriesDefault) || !mayRepeat(request, outcome.error)) throw outcome.error;
      await pause(Math.max(pauseMs(attempt), outcome.retryAfterMs), signal);
      throwIfOver(signal, deadline, outcome.error);
    }
  }

  async #once(request: Request, signal: AbortSignal): Promise<Outcome> {
    try {
      const response = await this.#attempt(request, signal);
      const text = await response.text();
      if (response.ok) return { text };
      return {
        error: answeredError(response.status, text, response.headers.get('x-request-id')),
        retryAfterMs: retryAfterMs(response.headers.get('retry-after')),
      };
    } catch (cause) {
      const error =
        cause instanceof PgquorumError
          ? cause
          : localError('connection_failed', `${request.method} ${request.path}: no answer`, cause);
      return { error, retryAfterMs: 0 };
    }
  }

  #attempt({ method, path, query, headers, body }: Request, signal: AbortSignal): Promise<Response> {
    const { apiKey, headers: always } = this.#options;
    const given = new URLSearchParams();
    for (const [name, value] of Object.entries(query ?? {}))
      if (value !== undefined) given.set(name, String(value));
    const search = given.toString();
    return this.#fetch(`${this.#base}${path}${search === '' ? '' : `?${search}`}`, {
      method,
      signal,
      headers: {
        ...always,
        ...(apiKey === undefined ? {} : { authorization: `Bearer ${apiKey}` }),
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
        ...Object.fromEntries(Object.entries(headers ?? {}).filter(([, value]) => value !== undefined)),
      } as Record<string, string>,
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
  }
}

type Outcome = { readonly text: string } | { readonly error: PgquorumError; readonly retryAfterMs: number };

function throwIfOver(signal: AbortSignal, deadline: AbortSignal, last: PgquorumError): void {
  if (!signal.aborted) return;
  if (signal.reason !== deadline.reason) throw signal.reason;
  throw localError(
    'deadline_exceeded',
    `the call's time is over; the last attempt ended with ${last.message}`,
    last,
  );
}

function mayRepeat({ repeatable }: Request, { status, code, cause }: PgquorumError): boolean {
  if (status === 429) return true;
  if (code === 'connection_failed') return repeatable || neverReached(cause);
  return repeatable && (status === 502 || status === 503 || status === 504);
}

/** Node says why; browsers do not. */
const neverReached = (cause: unknown): boolean =>
  /^(ECONNREFUSED|ENOTFOUND|EAI_AGAIN)$/.test(
    String((cause as { cause?: { code?: unknown } } | undefined)?.cause?.code),
  );

/** Seconds or a time, as RFC 9110 has it. */
function retryAfterMs(header: string | null): number {
  if (header === null) return 0;
  const ms = /^\d+$/.test(header) ? Number(header) * 1000 : Date.parse(header) - Date.now();
  return Number.isFinite(ms) ? Math.max(0, ms) : 0;
}

/** Spread, so that clients that failed at once do not come back at once. */
export const pauseMs = (attempt: number): number =>
  Math.min(pauseMaxMs, pauseMinMs * 2 ** attempt) * (0.5 + Math.random() / 2);

/** Ends early when the signal aborts. */
export function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      clearTimeout(timer);
      signal.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal.addEventListener('abort', done);
    if (signal.aborted) done();
  });
}

function parse(text: string): unknown {
  if (text === '') return undefined;
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw localError('unexpected_answer', 'the answer is no JSON', cause);
  }
}
