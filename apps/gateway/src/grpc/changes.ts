/** Changes of a collection as a stream of messages. */
import { placeText } from '#core/changes/place.ts';
import { changeCodec, changeType } from '#core/changelog/schema.files.ts';
import type { ChangeOperations } from '../operations/changes.ts';
import type { CallContext } from './services.ts';

/** A position is sent as often where no change brings one: one that is not renewed would expire. */
const silenceMaxMs = 10_000;

export const changeMethods = (operations: ChangeOperations) => ({
  Changes: async function* (
    { collection = '', from = '' }: { collection?: string; from?: string },
    { caller }: CallContext,
  ) {
    const gone = new AbortController();
    const signal = AbortSignal.any([gone.signal, ...(caller.signal === undefined ? [] : [caller.signal])]);
    try {
      const { place, steps } = await operations.open({
        collection,
        from: from === '' ? 'now' : from,
        signal,
      });
      yield { position: placeText(place) };
      let sentAt = performance.now();
      for await (const { changes, batch, origin, place: reached } of steps) {
        const position = batch?.position === null ? '' : placeText(reached);
        for (const [at, change] of changes.entries()) {
          // The very message of the change log.
          const { value } = changeCodec().encode(change, batch!, origin);
          yield {
            change: changeType().decode(value),
            ...(at === changes.length - 1 ? { position } : {}),
          };
        }
        if (changes.length === 0 && performance.now() - sentAt <= silenceMaxMs) continue;
        if (changes.length === 0) yield { position: placeText(reached) };
        sentAt = performance.now();
      }
    } finally {
      gone.abort();
    }
  },
});
