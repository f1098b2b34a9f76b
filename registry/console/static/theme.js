(()=>{var e=matchMedia("(prefers-color-scheme: dark)"),t=()=>document.documentElement.classList.toggle("pf-v6-theme-dark",e.matches);e.addEventListener("change",t);t();})();
