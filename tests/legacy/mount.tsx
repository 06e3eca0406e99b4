// What Next.js did for the old page: mount its default export. Production React, so effects run once.
import { createRoot } from 'react-dom/client';
import Home from './page';

createRoot(document.getElementById('root')!).render(<Home />);
