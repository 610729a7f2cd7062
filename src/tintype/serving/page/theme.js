// Before the first paint: the theme chosen last time, or else the system's.
try {
  const theme = localStorage.getItem("tintype-theme");
  if (theme) document.documentElement.dataset.theme = theme;
} catch { /* storage may be forbidden */ }
