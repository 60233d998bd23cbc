export { type PageServer, type ServePageOptions, servePage } from './serve-page.ts';
