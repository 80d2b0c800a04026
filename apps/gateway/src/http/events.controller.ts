/** Events as server-sent events. */
import { once } from 'node:events';
import type { ServerResponse } from 'node:http';
import { Controller, Get, Inject, Req, Res } from '@nestjs/common';
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { ClusterEvent } from '#core/events/event.ts';
import { unknownField } from '#core/requests/fields.ts';
import { whileKnown } from '../access/identity.ts';
import { EventOperations, type OpenStream } from '../operations/events.ts';
import { identityOf } from './call.ts';

/** Proxies end connections that are silent for a minute; clients notice a dead one by missing these. */
const silenceMaxMs = 10_000;
/** A client that takes nothing for so long is let go. */
const slowMaxMs = 60_000;

@Controller('v1/events')
export class EventsController {
  readonly #events: EventOperations;

  constructor(@Inject(EventOperations) events: EventOperations) {
    this.#events = events;
  }

  @Get()
  async events(@Req() request: FastifyRequest, @Res() reply: FastifyReply): Promise<void> {
    const { types, ...rest } = request.query as Record<string, string | undefined>;
    const [unknown] = Object.keys(rest);
    if (unknown !== undefined) throw unknownField(unknown);
    const gone = new AbortController();
    reply.raw.on('close', () => gone.abort());
    const after = request.headers['last-event-id'];
    const stream = await this.#events.open({
      after: typeof after === 'string' ? after : '',
      types,
      signal: whileKnown(identityOf(request), gone.signal),
    });
    reply.hijack();
    try {
      await send(reply.raw, stream, {
        ...(reply.getHeaders() as Record<string, string>),
        'content-type': 'text/event-stream; charset=utf-8',
        'x-accel-buffering': 'no',
        // A connection that came back for more would keep a gateway from ending that has stopped to listen.
        connection: 'close',
      });
    } catch {
      // The client is gone, or too slow, or no node can tell: it comes back with the id of the last event, and is told then.
    } finally {
      gone.abort();
      reply.raw.end();
    }
  }
}

async function send(
  response: ServerResponse,
  { pages, signal }: OpenStream,
  headers: Record<string, string>,
): Promise<void> {
  response.writeHead(200, headers);
  const write = async (text: string): Promise<void> => {
    if (response.write(text)) return;
    await once(response, 'drain', { signal: AbortSignal.any([signal, AbortSignal.timeout(slowMaxMs)]) });
  };
  await write('retry: 1000\n: from here on\n\n');
  let writtenAt = performance.now();
  for await (const page of pages) {
    if (page.length > 0) await write(page.map(showEvent).join(''));
    else if (performance.now() - writtenAt > silenceMaxMs) await write(': nothing new\n\n');
    else continue;
    writtenAt = performance.now();
  }
}

const showEvent = ({ id, type, at, node, body }: ClusterEvent): string =>
  `id: ${id}\nevent: ${type}\ndata: ${JSON.stringify({ type, at, node, ...body })}\n\n`;
