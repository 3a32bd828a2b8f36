sweepPage(document.getElementById("vl-sweep"), content, storedSound)
