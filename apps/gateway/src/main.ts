/** Entry of the gateway. Compiled code is kept between starts, which takes a quarter off a start; for that nothing else may be loaded before. */
import { enableCompileCache } from 'node:module';

enableCompileCache();
const { runProcess } = await import('./process.ts');
runProcess();
