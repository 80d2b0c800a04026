/** Server-sent events as an iterable that comes back by itself: after a connection that broke it goes on behind the last event that it gave. */
import { PgquorumError } from './error.ts';
import { pause, pauseMs, type Transport } from './transport.ts';

export interface StreamOptions {
  /** Ends the stream. */
  readonly signal?: AbortSignal;
  /** Goes on behind the event with this id. */
  readonly after?: string;
}

export interface ServerEvent {
  /** Null for events that carry no place. */
  readonly id: string | null;
  readonly type: string;
  readonly data: string;
}

/** A gateway says something every ten seconds at least. */
const silenceMaxMs = 35_000;

export interface StreamRequest {
  readonly path: string;
  readonly query: Readonly<Record<string, string | undefined>>;
}

/** Ends when the signal aborts or the caller stops; throws what would be answered again. */
export async function* serverEvents(
  transport: Transport,
  { path, query }: StreamRequest,
  { signal, after }: StreamOptions,
): AsyncGenerator<ServerEvent, void> {
  let last = after;
  const isOver = (): boolean => signal?.aborted === true;
  for (let failures = 0; !isOver();) {
    const end = new AbortController();
    const either = signal === undefined ? end.signal : AbortSignal.any([signal, end.signal]);
    try {
      const headers = { accept: 'text/event-stream', 'last-event-id': last };
      const response = await transport.open(
        { method: 'GET', path, query, headers, repeatable: true },
        either,
      );
      for await (const event of eventsOf(response.body!, end)) {
        failures = 0;
        if (event.id !== null) last = event.id;
        if (event.type !== 'error') yield event;
      }
    } catch (cause) {
      if (isOver()) return;
      if (cause instanceof PgquorumError && !comesBack(cause.status)) throw cause;
    } finally {
      end.abort();
    }
    await pause(pauseMs(Math.min(failures++, 6)), signal ?? new AbortController().signal);
  }
}

const comesBack = (status: number): boolean => status === 0 || status === 429 || status >= 500;

async function* eventsOf(
  body: ReadableStream<Uint8Array>,
  end: AbortController,
): AsyncGenerator<ServerEvent, void> {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let timer: ReturnType<typeof setTimeout> | undefined;
  let text = '';
  try {
    for (;;) {
      clearTimeout(timer);
      timer = setTimeout(() => end.abort(), silenceMaxMs);
      const { done, value } = await reader.read();
      if (done) return;
      const parts = (text + value).split(/\r?\n\r?\n/);
      text = parts.pop()!;
      for (const part of parts) {
        const event = parseEvent(part);
        if (event !== null) yield event;
      }
    }
  } finally {
    clearTimeout(timer);
  }
}

/** One block of lines; null when it is a comment or a setting. */
export function parseEvent(block: string): ServerEvent | null {
  let id: string | null = null;
  let type = 'message';
  const data: string[] = [];
  for (const line of block.split(/\r?\n/)) {
    const [, field, value] = /^([^:]*):? ?(.*)$/s.exec(line)!;
    if (field === 'id') id = value!;
    else if (field === 'event') type = value!;
    else if (field === 'data') data.push(value!);
  }
  return data.length === 0 ? null : { id, type, data: data.join('\n') };
}
