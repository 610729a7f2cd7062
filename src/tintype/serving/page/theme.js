// Before anything is painted: the theme chosen last time. Without a choice, what the system prefers.
try {
  const theme = localStorage.getItem("tintype-theme");
  if (theme) document.documentElement.dataset.theme = theme;
} catch { /* storage may be forbidden */ }
