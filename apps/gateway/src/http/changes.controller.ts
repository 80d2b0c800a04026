/** Changes of a collection as server-sent events. */
import { once } from 'node:events';
import type { ServerResponse } from 'node:http';
import { Controller, Get, Inject, Param, Req, Res } from '@nestjs/common';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { changeJson, operationOf } from '#core/changes/change-json.ts';
import { placeText, type Place } from '#core/changes/place.ts';
import { unknownField } from '#core/requests/fields.ts';
import { Nodes } from '#core/topology/nodes.pg.ts';
import { whileKnown } from '../access/identity.ts';
import { ChangeOperations, type CollectionStep, type OpenChangeStream } from '../operations/changes.ts';
import { identityOf } from './call.ts';
import { problemOf, toPgquorumError } from './problem.ts';

/** Proxies end connections that are silent for a minute. A position is sent as often: one that is not renewed would expire. */
const silenceMaxMs = 10_000;
/** A client that takes nothing for so long is let go. */
const slowMaxMs = 60_000;

@Controller('v1/changes')
export class ChangesController {
  readonly #changes: ChangeOperations;
  readonly #nodes: Nodes;

  constructor(@Inject(ChangeOperations) changes: ChangeOperations, @Inject(Nodes) nodes: Nodes) {
    this.#changes = changes;
    this.#nodes = nodes;
  }

  @Get(':collection')
  async changes(
    @Param('collection') collection: string,
    @Req() request: FastifyRequest,
    @Res() reply: FastifyReply,
  ): Promise<void> {
    const { from, ...rest } = request.query as Record<string, string | undefined>;
    const [unknown] = Object.keys(rest);
    if (unknown !== undefined) throw unknownField(unknown);
    // A client that comes back by itself repeats its first address: what it was told last counts.
    const last = request.headers['last-event-id'];
    const after = typeof last === 'string' && last !== '' ? last : from;
    const gone = new AbortController();
    reply.raw.on('close', () => gone.abort());
    const stream = await this.#changes.open({
      collection,
      from: after === undefined || after === '' ? 'now' : after,
      signal: whileKnown(identityOf(request), gone.signal),
    });
    reply.hijack();
    try {
      await this.#send(reply.raw, stream, {
        ...(reply.getHeaders() as Record<string, string>),
        'content-type': 'text/event-stream; charset=utf-8',
        'x-accel-buffering': 'no',
        // A connection that came back for more would keep a gateway from ending that has stopped to listen.
        connection: 'close',
      });
    } catch (cause) {
      // Told where somebody still listens; whoever comes back with the last position goes on or hears the same as an answer.
      if (!gone.signal.aborted)
        reply.raw.write(`event: error\ndata: ${JSON.stringify(problemOf(toPgquorumError(cause)))}\n\n`);
    } finally {
      gone.abort();
      reply.raw.end();
    }
  }

  async #send(
    response: ServerResponse,
    { place, steps, signal }: OpenChangeStream,
    headers: Record<string, string>,
  ): Promise<void> {
    response.writeHead(200, headers);
    const write = async (text: string): Promise<void> => {
      if (response.write(text)) return;
      await once(response, 'drain', { signal: AbortSignal.any([signal, AbortSignal.timeout(slowMaxMs)]) });
    };
    await write(`retry: 1000\n\n${showPosition(place, new Map())}`);
    let writtenAt = performance.now();
    for await (const step of steps) {
      if (step.changes.length > 0) for (const text of this.#show(step)) await write(text);
      else if (performance.now() - writtenAt > silenceMaxMs)
        await write(showPosition(step.place, step.waiting));
      else continue;
      writtenAt = performance.now();
    }
  }

  /** The last change of a transaction carries the position: who comes back before it gets the whole transaction again. One at a time: a transaction may be large. */
  *#show({ changes, batch, place, origin }: CollectionStep): Generator<string, void> {
    const id = batch!.position === null ? '' : `id: ${placeText(place)}\n`;
    const context = { commit: batch!, origin, nameOf: (number: number) => this.#nodes.nameOf(number) };
    for (const [at, change] of changes.entries())
      yield `${at === changes.length - 1 ? id : ''}event: ${operationOf(change)}\ndata: ${changeJson(change, context)}\n\n`;
  }
}

const showPosition = (place: Place, waiting: ReadonlyMap<string, string>): string =>
  `id: ${placeText(place)}\nevent: position\ndata: ${JSON.stringify({
    at: new Date().toISOString(),
    waiting: Object.fromEntries(waiting),
  })}\n\n`;
