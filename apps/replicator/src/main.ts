/** Entry of the replicator. Compiled code is kept between starts; for that, and for V8's settings, nothing else may be loaded before. */
import { enableCompileCache } from 'node:module';
import { setFlagsFromString } from 'node:v8';

// Rows are garbage as soon as they are applied. Left alone, V8 lets 100 MB of them gather in its young generation before it looks
// (bench/large-transaction.bench.ts).
setFlagsFromString('--max-semi-space-size=8');
setFlagsFromString('--semi-space-growth-factor=1');

enableCompileCache();
const { runProcess } = await import('./process.ts');
runProcess();
